# A port that every device opens belongs to one service of the fleet, however many copies it has on a device.
device pi-1 arm64 4cpu 4GiB
service shop/web x3 publish 80
apply shop
wait 2s
expect shop/web good 3
service blog/front x1 publish 80
refused apply blog "cannot publish port 80/tcp: `shop/web` has it"
service blog/front x1 port 80
refused apply blog "cannot publish port 80/tcp: `shop/web` has it"
service blog/front x1 publish 80/udp
apply blog
# The same within a stack; copies that have a port of their devices may share its number.
service blog/back x1 publish 80/udp
refused apply blog "cannot publish port 80/udp: `blog/front` has it"
service blog/back x1 port 443
apply blog
service shop/api x1 port 443
apply shop
wait 2s
expect shop/api.1 waits "no device can take it"
# A stack that gives a port up leaves it to others.
without shop/api
service shop/web x3
apply shop
service blog/back x1 publish 80
apply blog
wait 10s
expect blog/back good 1
