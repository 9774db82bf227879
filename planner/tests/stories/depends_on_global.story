# A service that runs everywhere waits for what it depends on as well, says so, and begins as soon as that runs.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
starts pi-1 take 5s
starts pi-2 take 5s
service shop/db x1
service shop/probe global after db
apply shop
wait 3s
expect shop/probe runs 0
wait 5s
expect shop/db good 1
wait 6s
expect shop/probe on pi-1 pi-2
