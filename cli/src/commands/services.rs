//! `scale`, `restart` and `resume`.

use outrigger_api::{Restarted, ScaleResponse, ServiceList};
use serde::Serialize;

use crate::args::{Restart, Resume, Scale, Wait};
use crate::progress::{self, Scope};
use crate::style::Tone;
use crate::{Client, Exit, Failure, Output, resolve};

pub(crate) fn scale(client: &Client, args: &Scale, out: &mut Output) -> Result<Exit, Failure> {
    let services = client.services()?.services;
    // All names are looked up before anything is changed.
    let targets: Vec<(String, u32)> = args
        .targets
        .iter()
        .map(|(name, copies)| Ok((resolve::service_among(&services, name)?, *copies)))
        .collect::<Result<_, Failure>>()?;
    let mut answers = Vec::new();
    for (service, copies) in &targets {
        answers.push(client.scale_service(service, *copies)?);
    }
    out.answer(&Many { services: answers }, Many::<ScaleResponse>::names, |many, look| {
        let line = |answer: &ScaleResponse| {
            let name = look.paint.text(Tone::Strong, &answer.service);
            format!("{name}: {} -> {} copies", answer.before, answer.after)
        };
        many.services.iter().map(line).collect()
    })?;
    wait(client, &args.wait, targets.into_iter().map(|(service, _)| service).collect(), out)
}

pub(crate) fn restart(client: &Client, args: &Restart, out: &mut Output) -> Result<Exit, Failure> {
    let services = client.services()?.services;
    let targets: Vec<String> =
        args.services.iter().map(|name| resolve::service_among(&services, name)).collect::<Result<_, Failure>>()?;
    let mut answers = Vec::new();
    for service in &targets {
        answers.push(client.restart_service(service)?);
    }
    out.answer(&Many { services: answers }, Many::<Restarted>::names, |many, look| {
        let line = |answer: &Restarted| {
            format!("{}: its copies are replaced one after another", look.paint.text(Tone::Strong, &answer.service))
        };
        many.services.iter().map(line).collect()
    })?;
    wait(client, &args.wait, targets, out)
}

pub(crate) fn resume(client: &Client, args: &Resume, out: &mut Output) -> Result<Exit, Failure> {
    let known = client.services()?.services;
    let targets: Vec<String> =
        args.services.iter().map(|name| resolve::service_among(&known, name)).collect::<Result<_, Failure>>()?;
    let mut services = Vec::new();
    for service in &targets {
        services.push(client.resume_service(service)?);
    }
    out.answer(
        &ServiceList { services },
        |list| list.services.iter().map(|service| service.name.clone()).collect(),
        |list, look| {
            let line = |service: &outrigger_api::Service| {
                format!("{}: its update goes on", look.paint.text(Tone::Strong, &service.name))
            };
            list.services.iter().map(line).collect()
        },
    )?;
    wait(client, &args.wait, targets, out)
}

/// Answers to one change of several services.
#[derive(Serialize)]
struct Many<T> {
    services: Vec<T>,
}

impl Many<ScaleResponse> {
    fn names(&self) -> Vec<String> {
        self.services.iter().map(|answer| answer.service.clone()).collect()
    }
}

impl Many<Restarted> {
    fn names(&self) -> Vec<String> {
        self.services.iter().map(|answer| answer.service.clone()).collect()
    }
}

fn wait(client: &Client, wait: &Wait, services: Vec<String>, out: &mut Output) -> Result<Exit, Failure> {
    if wait.wait {
        progress::wait(client, &Scope::Services(services), wait.timeout, out)?;
    }
    Ok(Exit::Ok)
}
