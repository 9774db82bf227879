# Where no other device will do, a hanging pull stays where it is, and says so.
policy pull_stall=60s
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
fault stuck:1 hang
service shop/stuck x1 image stuck:1 constraint node.hostname==pi-1
apply shop
wait 70s
expect shop/stuck.1 waits "should leave pi-1, and no other device can take it"
heal stuck:1
wait 5s
expect shop/stuck on pi-1
expect shop/stuck.1 does not wait
