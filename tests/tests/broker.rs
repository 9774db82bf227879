//! Real brokers: `tests/run broker`.

mod broker {
    mod mosquitto;
    mod mosquitto_tls;
}
