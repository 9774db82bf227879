# A service waits for its first start until what it depends on runs.
device pi-1 arm64 4cpu 4GiB
starts pi-1 take 5s
service shop/db x1
service shop/web x1 after db
apply shop
wait 2s
expect shop/web.1 waits "waits until db runs"
expect note "shop/web.1 is pending: waits until db runs"
wait 10s
expect shop/web on pi-1
service bad/a x1 after b
service bad/b x1 after a
refused apply bad "in turn"
