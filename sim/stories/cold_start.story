# Both machines are switched on together: the master leads.
users anna
start none

0.0s power on master
0.0s power on standby
2.0s expect active master
2.0s expect protected
---
0.000s power on master
0.000s power on standby
    master keeper: cold -> claiming
    master keeper: claiming -> active
    standby keeper: cold -> passive
    master server: serves: 0 calls and 0 logins
    master server: protected
2.000s expect active master
2.000s expect protected
peace
    every promise was kept
