# The highest numbers go first.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/web x4
apply shop
wait 5s
scale shop/web 2
wait 1s
expect shop/web.1 on pi-1
expect shop/web.2 on pi-2
expect shop/web runs 2
scale shop/web 0
wait 1s
expect shop/web on
refused scale shop/none 2 "there is no service"
refused scale shop/web 2000000 "more than"
