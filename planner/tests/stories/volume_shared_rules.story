# Where one of the services that share a volume has rules, those that are placed first keep to them too.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 8GiB label disk=ssd
service shop/agent x1 volume data memory 1GiB
service shop/db x1 volume data memory 7GiB constraint node.labels.disk==ssd
apply shop
wait 10s
expect shop/agent on pi-3
expect shop/db on pi-3
expect no note "data"
# Nothing can take both: neither is placed, and why says what is in the way.
service lab/feed x1 volume samples constraint node.hostname==pi-1
service lab/store x1 volume samples constraint node.hostname==pi-2
apply lab
wait 10s
expect lab/feed on
expect lab/store on
expect refusal lab/feed.1 pi-1 "another service has the local volume `samples` too and could not run there: node.hostname is `pi-1`, wanted == `pi-2`"
# What runs everywhere has the volume everywhere, and ties nobody.
service logs/ship global volume lines
service logs/app x2 volume lines
apply logs
wait 10s
expect logs/ship on pi-1 pi-2 pi-3
expect logs/app on pi-1 pi-2
