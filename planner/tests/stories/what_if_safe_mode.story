# What would be one loss too many says so.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 10s
cut pi-1
wait 3500ms
foresee pi-2 lost
expect foreseen shop/web.2 "too many devices fell silent at once"
