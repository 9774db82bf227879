# Who is told of what: devices that share a network with a service, and all for what every device opens.
device pi-1 arm64 4cpu 4GiB mesh 10.0.0.1 label zone=a
device pi-2 arm64 4cpu 4GiB mesh 10.0.0.2 label zone=b
device pi-3 arm64 4cpu 4GiB mesh 10.0.0.3 label zone=c
device old arm64 4cpu 4GiB label zone=d
network shop back
network shop front
service shop/web x1 network front network back:site publish 80 constraint node.labels.zone==a
service shop/db x1 network back constraint node.labels.zone==b
service shop/log x1 network front constraint node.labels.zone==c
apply shop
# Nothing runs yet: the names are there, with nobody behind them.
expect routes pi-1 shop/web
wait 5s
expect routes pi-1 shop/web pi-1:ready
expect routes pi-1 shop/web publishes 80:80/tcp
expect routes pi-1 shop/web callers pi-2 pi-3
expect routes pi-1 shop/db pi-2:ready
expect routes pi-1 shop/db through back
expect routes pi-2 shop/web through back
expect routes pi-2 shop/web aliases site
expect routes pi-2 shop/db callers pi-1
expect routes pi-2 shop/log none
expect routes pi-3 shop/db none
expect routes pi-3 shop/web pi-1:ready
# A device without a proxy is told of nothing, and its copies are out of reach.
expect routes old shop/web none
service shop/web x1 network front network back publish 80 constraint node.labels.zone==d
apply shop
wait 20s
expect shop/web on old
expect routes pi-2 shop/web
# Who leaves a network may reach its services no more.
service shop/web x1 network front publish 80 constraint node.labels.zone==a
apply shop
wait 30s
expect shop/web on pi-1
expect routes pi-2 shop/db pi-2:ready
expect routes pi-2 shop/db callers
expect routes pi-1 shop/db none
expect routes pi-2 shop/web through
expect routes pi-2 shop/web pi-1:ready
# What is published no more is told to its networks only.
service shop/web x1 network front constraint node.labels.zone==a
apply shop
wait 1s
expect routes pi-2 shop/web none
remove shop
wait 20s
expect routes pi-1 shop/web none
expect routes pi-3 shop/log none
