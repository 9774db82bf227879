# A broken connection makes a device suspect at once and lost two seconds later.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
power-cut pi-2
will pi-2
expect pi-2 suspect
wait 1.9s
expect pi-2 suspect
wait 0.2s
expect pi-2 lost
wait 0.5s
expect shop/web.2 on pi-1
