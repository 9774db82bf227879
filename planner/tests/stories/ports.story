# A port of a device belongs to one copy.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/web x3 port 80
service shop/dns x1 port 80/udp
apply shop
wait 2s
expect shop/web on pi-1 pi-2
expect shop/web.3 waits "no device can take it"
expect refusal shop/web.3 pi-1 "port 80/tcp is taken"
device pi-3 arm64 4cpu 4GiB
wait 2s
expect shop/web.3 on pi-3
expect shop/web.3 does not wait
# A change takes over the port of its predecessor.
service shop/web x3 port 80 image web:2 monitor 1s
apply shop
wait 30s
expect roll shop/web done
expect shop/web on pi-1 pi-2 pi-3
