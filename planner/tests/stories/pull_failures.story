# Another device is tried only where it could help.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
fault full:1 pull "write: no space left on device" on pi-1
fault gone:1 pull "pull access denied for gone"
service shop/full x1 image full:1
service shop/gone x1 image gone:1
apply shop
wait 10s
expect shop/full on pi-2
expect shop/gone.1 waits "pull access denied"
