# The active server is held up for a moment, shorter than its lease: nobody takes over.
users anna ben

0.0s anna calls ben
0.5s ben picks up
1.0s hang server master for 50ms
1.5s expect active master
2.0s anna hangs up
---
0.000s anna calls ben
    anna: calls ben (call 1)
    anna: hears 100 (call 1)
    ben: rings (call 1)
    anna: hears it ring (call 1)
0.500s ben picks up
    ben: picks up (call 1)
    anna: talks to ben (call 1)
    ben: is acknowledged (call 1)
1.000s hang server master for 50ms
1.500s expect active master
2.000s anna hangs up
    anna: hangs up (call 1)
peace
    every promise was kept
