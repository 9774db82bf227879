# A device is told of the networks that its containers join, and of no others.
device pi-1 arm64 4cpu 4GiB label zone=attic
device pi-2 arm64 4cpu 4GiB
network shop shop_default
network shop shop_back internal
service shop/web x1 network shop_default network shop_back constraint node.labels.zone==attic
service shop/db x1 network shop_back constraint node.labels.zone!=attic
apply shop
wait 5s
expect networks pi-1 shop_back shop_default
expect networks pi-2 shop_back
# Who joins another stack's network needs one that defines it.
service blog/front x1 network edge
refused apply blog "joins the network `edge`, which no stack defines"
network proxy edge
service proxy/door x1 network edge
apply proxy
apply blog
# What it is like is one stack's word.
network blog edge internal
refused apply blog "is defined by stack `proxy` already"
no-network blog edge
network proxy edge internal
refused apply proxy "cannot be changed while `blog/front` is in it"
# A stack that lends a network to another stays.
network proxy edge
refused remove proxy "lends the network `edge` to `blog/front`"
no-network proxy edge
network proxy other
service proxy/door x1 network other
refused apply proxy "lends the network `edge` to `blog/front`"
remove blog
apply proxy
wait 15s
expect roll proxy/door done
# A network that nobody is in any more may come back as another.
network proxy edge internal
service proxy/door x1 network edge
apply proxy
# The hub knows its networks after a restart.
hub stops
wait 1s
hub starts
wait 5s
expect networks pi-1 edge shop_back shop_default
expect networks pi-2 shop_back
