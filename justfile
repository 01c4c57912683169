# Shorthands for those who have `just`. Each is one command that works without it.

# Installs what is missing.
setup:
    ./setup

# Rules about the tree that the compiler does not know; fast.
tidy:
    cargo xtask tidy

# Everything that must hold before a change lands.
ci *STEPS:
    .ci/run {{STEPS}}

# The tests of one crate, e.g. `just test tandem-pair`.
test CRATE:
    cargo test -p {{CRATE}}

# The whole story with two phones and a killed server.
story:
    cargo run --release -p tandem -- demo --story
