# A copy that is taken away is seen to drain until it has stopped.
device pi-1 arm64 4cpu 4GiB mesh 10.0.0.1
device pi-2 arm64 4cpu 4GiB mesh 10.0.0.2
network shop net
service shop/web x2 network net max 1
apply shop
wait 5s
expect routes pi-1 shop/web pi-1:ready pi-2:ready
cut pi-2
scale shop/web 1
expect routes pi-1 shop/web pi-1:ready pi-2:draining
mend pi-2
wait 1s
expect routes pi-1 shop/web pi-1:ready pi-2:draining
wait 8s
expect routes pi-1 shop/web pi-1:ready
