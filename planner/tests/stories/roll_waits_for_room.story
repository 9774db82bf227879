# A change for which there is no room says so, and which values were compared; the old copy goes on meanwhile.
device pi-1 arm64 4cpu 4GiB
service shop/web x1 image web:1 cpu 1
apply shop
wait 5s
mark
service shop/web x1 image web:2 cpu 6 monitor 1s
apply shop
wait 1m
expect stops 0
expect shop/web on pi-1
expect shop/web.1 waits "keeps its earlier content: on pi-1, 4.000 cores are free, 6.000 are wanted, and no other device can take the new one"
expect roll shop/web preparing "6.000 are wanted"
expect note "the change of shop/web waits for room: shop/web.1 keeps its earlier content"
device pi-2 arm64 8cpu 4GiB
wait 1m
expect roll shop/web done
expect shop/web on pi-2
expect shop/web.1 does not wait
# Copies that stay with their device and get the same port there: one is changed, and the other says why it is not.
service shop/lamp x2 image lamp:1 waits-for-device constraint node.hostname==pi-1
apply shop
wait 5s
service shop/lamp x2 image lamp:2 port 80 waits-for-device constraint node.hostname==pi-1 monitor 1s
apply shop
wait 1m
expect shop/lamp.1 does not wait
expect shop/lamp.2 waits "on pi-1, port 80/tcp is taken by another copy, and it stays on its device, as its policy says"
expect shop/lamp runs 2
# What is wanted no more ends the waiting.
service shop/lamp x2 image lamp:3 waits-for-device constraint node.hostname==pi-1 monitor 1s
apply shop
wait 1m
expect roll shop/lamp done
expect shop/lamp.2 does not wait
