# A device lost during a roll: its copy comes up elsewhere with the new content, and the roll goes on.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
device pi-4 arm64 4cpu 4GiB
service shop/web x3 image web:1
apply shop
wait 10s
service shop/web x3 image web:2
apply shop
wait 1s
power-cut pi-2
wait 1m
expect roll shop/web done
expect shop/web good 3
expect shop/web on pi-1 pi-3 pi-4
