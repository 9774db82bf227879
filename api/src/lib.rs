//! The JSON of the hub's HTTP API: what the command line, the dashboard and other programs send and get. Types only.
//!
//! Conventions: keys and choices are `snake_case`; a name is text as a user writes it (`shop`, `shop/web`,
//! `shop/web.2`, `pi-4`); a point in time is milliseconds since 1970 and ends in `_unix_ms`; a span says its unit
//! (`_s`, `_ms`); an amount too (`_bytes`, `_milli` = thousandths of a core, `_permille` = thousandths of the whole).
//! What is not known is left out. Readers must accept keys and choices that they do not know: they are only ever added.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod access;
mod device;
mod event;
mod explain;
mod health;
mod history;
mod join;
mod logs;
mod network;
mod problem;
mod replica;
mod secret;
mod service;
mod stack;
mod what_if;

pub use access::{
    AuditCheck, AuditList, AuditQuery, AuditRecord, LoginRequest, PasswordRequest, Role, SecretText, Session,
    SessionList, SessionOpened, SetupCode, SetupRequest, Token, TokenCreated, TokenList, TokenRequest, User, UserList,
    UserRequest, Whoami,
};
pub use device::{
    Attached, Availability, Device, DeviceChange, DeviceList, DeviceState, DeviceWarning, DevicesChange, EngineView,
    Forgotten, Load, LossConfirmation, Reserved,
};
pub use event::{Event, EventList, EventQuery, Severity};
pub use explain::{Candidate, Explanation, Refusal, ReplicaExplanation, ScorePart, Verdict};
pub use health::{Check, Fleet, Health};
pub use history::{Dimension, History, HistoryQuery, Range, Series};
pub use join::{
    AllowedDevices, CodeApproval, CodeApproved, Invite, InviteCreated, InviteList, InviteRequest, InviteUse,
    JoinRequest, JoinResponse, KnockAnswer, KnockJoined, KnockRequest, WaitingDevice, WaitingList,
};
pub use logs::{LogFrame, LogOutput, LogsQuery};
pub use network::{DeviceNetwork, Endpoint, EndpointList, EndpointState, Published, ScrapeGroup, TakenPort};
pub use problem::{Diagnostic, DiagnosticSeverity, Problem, ProblemKind};
pub use replica::{Exit, ExitKind, PlacedCopy, Port, Pull, Replica, ReplicaList, ReplicaQuery, ReplicaState};
pub use secret::{FileRequest, RegistryLogin, RegistryLoginList, RegistryLoginRequest, StoredFile, StoredFileList};
pub use service::{Restarted, ScaleRequest, ScaleResponse, Service, ServiceList, ServiceMode, Update, UpdateState};
pub use stack::{
    ApplyRequest, ApplyResponse, CheckResponse, PlannedReplica, Removed, ServiceChange, ServiceChangeKind, Stack,
    StackList, StackSummary,
};
pub use what_if::{IfLost, IfLostOutcome, WhatIfLost};
