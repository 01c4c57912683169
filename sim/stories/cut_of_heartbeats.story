# Only the heartbeats are lost: the link says that the active server lives.
users anna ben

0.0s anna calls ben
0.3s ben picks up
1.0s cut heartbeat standby
2.5s expect active master
3.0s mend heartbeat standby
4.0s expect protected
4.5s anna hangs up
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.300s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
1.000s cut heartbeat standby
2.500s expect active master
3.000s mend heartbeat standby
4.000s expect protected
4.500s anna hangs up
    anna: hangs up (call 1)
peace
    every promise was kept
