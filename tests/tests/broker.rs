//! Real brokers: `tests/run broker`.

mod broker {
    mod mosquitto;
}
