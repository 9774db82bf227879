# A copy without room waits with the refusal of every device, and is placed when there is room.
device pi-1 arm64 4cpu 1GiB
service shop/web x3 memory 512MiB
apply shop
wait 2s
expect shop/web runs 2
expect refusal shop/web.3 pi-1 "0 B of memory are free, 512.0 MiB are wanted"
service other/x x0
device pi-2 arm64 4cpu 1GiB
wait 2s
expect shop/web runs 3
expect shop/web.3 on pi-2
power-cut pi-2
wait 10s
expect shop/web.3 waits "no device can take it"
scale shop/web 2
wait 2s
scale shop/web 3
wait 2s
expect shop/web.3 waits "no device"
