# A device whose gaps are longer again and again gets a longer limit.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
expect pi-2 lost after 4s
cut pi-2
wait 6s
mend pi-2
wait 20s
cut pi-2
wait 6s
mend pi-2
wait 20s
mark
cut pi-2
wait 6s
expect pi-2 suspect
expect starts 0
mend pi-2
wait 5s
expect pi-2 up
expect no note "lost"
