//! Questions of the hub.

use outrigger_protocol::{Answer, AnswerBody, Ask, LogsRequest, Moment, RequestId, UpMessage};

use super::{Core, Effect};

/// Questions answered at a time; each holds a connection to the engine and a window of chunks.
pub const MAX_REQUESTS: usize = 16;

impl Core {
    pub(super) fn asked(&mut self, ask: Ask, now: Moment, effects: &mut Vec<Effect>) {
        match ask {
            Ask::Hello => self.hello(now, effects),
            Ask::Renew => self.renewal.wish(),
            Ask::Logs(request, logs) => effects.push(self.start_logs(request, logs)),
            Ask::Taken(request, sequence) => {
                if self.requests.contains(&request) {
                    effects.push(Effect::Taken(request, sequence));
                }
            }
            Ask::Cancel(request) => {
                if self.requests.remove(&request) {
                    effects.push(Effect::Cancel(request));
                }
            }
        }
    }

    fn start_logs(&mut self, request: RequestId, logs: LogsRequest) -> Effect {
        let refuse = |why: &str| {
            let body = AnswerBody::Error(why.to_owned());
            Effect::Publish(UpMessage::Answer(Answer { request, sequence: 0, body }))
        };
        if self.requests.contains(&request) {
            return refuse("a question of that number is being answered");
        }
        if self.requests.len() >= MAX_REQUESTS {
            return refuse("the device answers too many questions at once; try again later");
        }
        let Some(container) = self.observed.by_placement().get(&logs.placement).map(|container| container.id.clone())
        else {
            return refuse("the device has no container of that replica");
        };
        self.requests.insert(request);
        Effect::Logs(request, logs.placement, container, logs)
    }
}
