# A device that shuts down is replaced after two seconds; one that leaves at once.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
bye pi-2 shutdown
power-cut pi-2
wait 1.9s
expect pi-2 away
wait 1s
expect pi-2 lost
expect shop/web.2 on pi-1
bye pi-3 leave
power-cut pi-3
expect pi-3 lost
wait 0.5s
expect shop/web.3 on pi-1
expect no safe mode
