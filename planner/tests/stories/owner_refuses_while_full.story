# One owner refuses, and the other device is only full for a moment: that is no final word.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 2cpu 4GiB
service crowd/a x1 cpu 2 constraint node.hostname==pi-2
apply crowd
wait 5s
fault shop/app owner "the owner of the device does not allow privileged containers" on pi-1
service shop/app x1 cpu 1
apply shop
wait 10s
expect shop/app.1 waits "no device can take it at present; not allowed on pi-1: the owner"
expect refusal shop/app.1 pi-2 "0.000 cores are free, 1.000 are wanted"
scale crowd/a 0
wait 10s
expect shop/app on pi-2
# Where the rest is too small for good, it is.
service shop/big x1 cpu 3
fault shop/big owner "the owner of the device does not allow privileged containers" on pi-1
apply shop
wait 10s
expect shop/big.1 waits "no device can take it: pi-1: the owner"
