# A restart replaces every copy, one after another, with the same content.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/web x2 monitor 1s
apply shop
wait 5s
mark
restart shop/web
wait 20s
expect starts 2
expect stops 2
expect roll shop/web done
