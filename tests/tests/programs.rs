//! Hub, agents and command line as the programs that users run, on this machine, with the engine in memory: `tests/run
//! programs`.

mod programs {
    mod canaries;
    mod gone;
    mod joining;
    mod kept;
    mod rotation;
    mod small;
}
