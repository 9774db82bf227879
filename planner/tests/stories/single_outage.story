# A cable that is pulled once for some seconds teaches nothing: the next outage is seen as soon as ever.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
cut pi-2
wait 6s
mend pi-2
wait 70s
expect pi-2 lost after 4s
expect shop/web runs 3
mark
cut pi-2
wait 5s
expect pi-2 lost
