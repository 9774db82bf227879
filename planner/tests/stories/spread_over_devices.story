# Copies of a service are spread over devices before anything else; ties go to the smaller name.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
device pi-3 arm64 4cpu 4GiB
service shop/web x3
apply shop
wait 2s
expect shop/web.1 on pi-1
expect shop/web.2 on pi-2
expect shop/web.3 on pi-3
expect shop/web good 3
expect shop/web.1 because "wanted"
scale shop/web 4
wait 1s
expect shop/web.4 on pi-1
