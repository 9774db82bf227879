# Started first: the old copy goes when the new one runs, and stays when it does not.
device pi-1 arm64 4cpu 4GiB
device pi-2 arm64 4cpu 4GiB
service shop/web x2 image web:1 start-first monitor 1s
apply shop
wait 5s
starts pi-1 take 3s
service shop/web x2 image web:2 start-first monitor 1s
apply shop
wait 2s
expect shop/web.1 on pi-1 pi-1
wait 20s
expect shop/web on pi-1 pi-2
expect roll shop/web done
fault web:3 unhealthy
service shop/web x2 image web:3 start-first monitor 1s
apply shop
wait 1m
expect roll shop/web paused "healthcheck"
expect shop/web good 2
