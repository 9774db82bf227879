# A reason says what stands in the way, and not whose it is: who may see one stack may not see the others.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service hidden/canary x2 port 80 cpu 3
apply hidden
wait 2s
expect hidden/canary on pi-1 pi-2
service mine/web x1 port 80
service mine/big x1 cpu 3
apply mine
wait 2s
expect mine/web.1 waits "no device can take it"
expect refusal mine/web.1 pi-1 "port 80/tcp is taken by another copy"
expect refusal mine/big.1 pi-2 "1.000 cores are free, 3.000 are wanted"
expect nothing about mine/web names hidden
expect nothing about mine/web names canary
expect nothing about mine/big names hidden
expect nothing about mine/big names canary
