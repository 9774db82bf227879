# Only what runs and is healthy gets requests.
device pi-1 arm64 4cpu 4GiB mesh 10.0.0.1
device pi-2 arm64 4cpu 4GiB mesh 10.0.0.2
device pi-3 arm64 4cpu 4GiB mesh 10.0.0.3
network shop net
service shop/web x3 network net publish 80 max 1
apply shop
wait 5s
expect routes pi-1 shop/web pi-1:ready pi-2:ready pi-3:ready
fault shop/web unhealthy on pi-2
wait 1s
expect routes pi-1 shop/web pi-1:ready pi-3:ready
heal shop/web
wait 1s
expect routes pi-1 shop/web pi-1:ready pi-2:ready pi-3:ready
# A suspect device's copy finishes what it has; others take what is new. A lost one's is out.
power-cut pi-3
wait 2.6s
expect pi-3 suspect
expect routes pi-1 shop/web pi-1:ready pi-2:ready pi-3:draining
wait 2s
expect pi-3 lost
expect routes pi-1 shop/web pi-1:ready pi-2:ready
boot pi-3
wait 10s
expect routes pi-1 shop/web pi-1:ready pi-2:ready pi-3:ready
# After its restart the hub knows of copies, not how they are: what is heard of is preferred.
cut pi-2
hub stops
wait 1s
hub starts
expect routes pi-1 shop/web pi-1:ready pi-2:ready pi-3:ready
wait 1s
expect routes pi-1 shop/web pi-1:ready pi-2:draining pi-3:ready
mend pi-2
wait 2s
expect routes pi-1 shop/web pi-1:ready pi-2:ready pi-3:ready
