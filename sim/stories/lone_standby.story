# The standby is switched on alone: it waits for its twin, then leads.
users anna
start none

0.0s power on standby
5.0s expect nobody serves
13.0s expect active standby
14.0s power on master
16.0s expect active standby
16.0s expect protected
---
0.000s power on standby
5.000s expect nobody serves
    standby keeper: cold -> probing
    standby keeper: probing -> claiming
    standby keeper: claiming -> active
    standby server: serves: 0 calls and 0 logins
13.000s expect active standby
14.000s power on master
    master keeper: cold -> passive
    standby server: protected
16.000s expect active standby
16.000s expect protected
peace
    every promise was kept
