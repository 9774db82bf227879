//! The fleet as Prometheus sees it. Collected anew from one look at each scrape, so that what belongs to a device, a
//! service or a stack vanishes with it.

use std::fmt;

use outrigger_api::{Device, DeviceState, Fleet, Load, Service};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::broker::Totals;

/// Sort of what [`text()`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// One look at everything that is measured.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The fleet in numbers.
    pub fleet: Fleet,
    /// All devices.
    pub devices: Vec<Device>,
    /// All services.
    pub services: Vec<Service>,
    /// What the broker's side has counted.
    pub broker: Totals,
    /// Whether the store saves.
    pub is_saving: bool,
    /// Whether devices can be heard.
    pub is_hearing: bool,
}

/// The snapshot in OpenMetrics' text format.
///
/// # Errors
/// Never in practice: the text is written to memory.
pub fn text(snapshot: Snapshot) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> fmt::Result {
        let mut out = Families { encoder };
        out.hub(self)?;
        out.broker(&self.broker)?;
        out.devices(&self.devices)?;
        out.loads(&self.devices)?;
        out.services(&self.services)
    }
}

struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
}

/// Label of a device's metric.
fn of_device(device: &Device) -> Vec<(&'static str, String)> {
    vec![("device", device.name.clone())]
}

fn of_service(service: &Service) -> Vec<(&'static str, String)> {
    let name = service.name.rsplit('/').next().unwrap_or_default();
    vec![("stack", service.stack.clone()), ("service", name.to_owned())]
}

fn flag(holds: bool) -> f64 {
    if holds { 1.0 } else { 0.0 }
}

fn ratio(permille: u16) -> f64 {
    f64::from(permille) / 1000.0
}

/// Exact to 2⁵³, which is more bytes than a device has.
#[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
fn number(value: u64) -> f64 {
    value as f64
}

impl Families<'_> {
    fn one(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn count(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<[(&str, &str); 0], u64, u64>(&value, None)
    }

    fn each<T>(
        &mut self,
        (name, help): (&str, &str),
        things: &[T],
        labels: fn(&T) -> Vec<(&'static str, String)>,
        value: impl Fn(&T) -> Option<f64>,
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for thing in things {
            if let Some(value) = value(thing) {
                metric.encode_family(&labels(thing))?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn hub(&mut self, all: &Snapshot) -> fmt::Result {
        let fleet = &all.fleet;
        let version = [("version", fleet.version.as_str())];
        self.encoder.encode_descriptor("outrigger_hub", "The hub", None, MetricType::Info)?.encode_info(&version)?;
        self.one("outrigger_hub_uptime_seconds", "Time since the hub's start", number(fleet.uptime_s))?;
        self.one("outrigger_hub_epoch", "Takeovers and restores", f64::from(fleet.epoch))?;
        self.one("outrigger_hub_store_ok", "Whether the store saves", flag(all.is_saving))?;
        self.one("outrigger_hub_broker_ok", "Whether devices can be heard", flag(all.is_hearing))?;
        let safe = "Whether nothing moves because too many devices fell silent at once";
        self.one("outrigger_safe_mode", safe, flag(fleet.safe_mode.is_some()))?;
        self.one("outrigger_devices", "Devices known", f64::from(fleet.devices))?;
        self.one("outrigger_devices_online", "Devices heard and not overdue", f64::from(fleet.devices_online))?;
        self.one("outrigger_stacks", "Stacks", f64::from(fleet.stacks))?;
        self.one("outrigger_replicas_wanted", "Replicas wanted", f64::from(fleet.wanted))?;
        self.one("outrigger_replicas_running", "Replicas that run and are healthy", f64::from(fleet.running))?;
        self.one("outrigger_replicas_pending", "Replicas that wait or have no device", f64::from(fleet.pending))
    }

    fn broker(&mut self, totals: &Totals) -> fmt::Result {
        self.one("outrigger_broker_connections", "Devices connected to the embedded broker", number(totals.connected))?;
        let counts = [
            ("outrigger_broker_received", "Messages from devices that could be read", totals.received),
            ("outrigger_broker_sent", "Messages sent to devices", totals.sent),
            ("outrigger_broker_malformed", "Messages that could not be read", totals.malformed),
            ("outrigger_broker_too_large", "Messages to devices that were too large to send", totals.too_large),
            ("outrigger_broker_heartbeats_shed", "Heartbeats dropped under load", totals.heartbeats_shed),
            ("outrigger_broker_connections_refused", "Connections refused", totals.connections_refused),
            ("outrigger_broker_publishes_refused", "Publishes and subscriptions refused", totals.publishes_refused),
        ];
        counts.into_iter().try_for_each(|(name, help, value)| self.count(name, help, value))
    }

    fn devices(&mut self, devices: &[Device]) -> fmt::Result {
        let online = ("outrigger_device_online", "Whether the device is heard and not overdue");
        self.each(online, devices, of_device, |device| Some(flag(device.state == DeviceState::Online)))?;
        let lost = ("outrigger_device_lost", "Whether the device is lost");
        self.each(lost, devices, of_device, |device| Some(flag(device.state == DeviceState::Lost)))?;
        let heard = ("outrigger_device_heard_seconds", "Time since the device was heard");
        self.each(heard, devices, of_device, |device| device.heard_ms_ago.map(|ms| number(ms) / 1000.0))?;
        let engine = ("outrigger_device_engine_ok", "Whether the container engine answers and can store");
        self.each(engine, devices, of_device, |device| device.engine.as_ref().map(|engine| flag(engine.up)))?;
        let assigned = ("outrigger_device_replicas", "Copies assigned");
        self.each(assigned, devices, of_device, |device| Some(f64::from(device.replicas)))?;
        let running = ("outrigger_device_replicas_running", "Copies that run and are healthy");
        self.each(running, devices, of_device, |device| Some(f64::from(device.running)))?;
        let memory = ("outrigger_device_memory_bytes", "Memory that replicas may reserve");
        self.each(memory, devices, of_device, |device| Some(number(device.memory_bytes)))?;
        let memory = ("outrigger_device_memory_reserved_bytes", "Memory reserved by copies");
        self.each(memory, devices, of_device, |device| Some(number(device.reserved.memory_bytes)))?;
        let cpu = ("outrigger_device_cpu_cores", "Processor time that replicas may reserve");
        self.each(cpu, devices, of_device, |device| Some(f64::from(device.cpu_milli) / 1000.0))?;
        let cpu = ("outrigger_device_cpu_reserved_cores", "Processor time reserved by copies");
        self.each(cpu, devices, of_device, |device| Some(f64::from(device.reserved.cpu_milli) / 1000.0))
    }

    /// What a device said last is no measurement any more when it is not heard.
    fn loads(&mut self, devices: &[Device]) -> fmt::Result {
        let mut load = |name, help, of: fn(&Load) -> Option<f64>| {
            let heard = |device: &Device| matches!(device.state, DeviceState::Online | DeviceState::Suspect);
            self.each((name, help), devices, of_device, |device| {
                device.load.as_ref().filter(|_| heard(device)).and_then(of)
            })
        };
        load("outrigger_device_cpu_ratio", "Processor time used", |load| Some(ratio(load.cpu_permille)))?;
        load("outrigger_device_memory_ratio", "Memory used", |load| Some(ratio(load.memory_permille)))?;
        load("outrigger_device_swap_ratio", "Swap used", |load| Some(ratio(load.swap_permille)))?;
        load("outrigger_device_disk_ratio", "Space used on the engine's disk", |load| Some(ratio(load.disk_permille)))?;
        load("outrigger_device_load1", "Load average of one minute", |load| Some(load.load1))?;
        load("outrigger_device_receive_kilobytes_per_second", "Received", |load| Some(f64::from(load.rx_kbps)))?;
        load("outrigger_device_send_kilobytes_per_second", "Sent", |load| Some(f64::from(load.tx_kbps)))?;
        load("outrigger_device_temperature_celsius", "Hottest sensor", |load| load.temperature_celsius)?;
        load("outrigger_device_throttled", "Whether the board slows itself down", |load| Some(flag(load.throttled)))?;
        load("outrigger_device_undervoltage", "Whether its supply is too weak", |load| Some(flag(load.undervoltage)))
    }

    fn services(&mut self, services: &[Service]) -> fmt::Result {
        let wanted = ("outrigger_service_replicas_wanted", "Replicas wanted");
        self.each(wanted, services, of_service, |service| Some(f64::from(service.wanted)))?;
        let running = ("outrigger_service_replicas_running", "Replicas that run and are healthy");
        self.each(running, services, of_service, |service| Some(f64::from(service.running)))?;
        let pending = ("outrigger_service_replicas_pending", "Replicas that wait or have no device");
        self.each(pending, services, of_service, |service| Some(f64::from(service.pending)))
    }
}
