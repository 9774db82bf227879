//! `login` and `whoami`: the hub's authority is pinned before any secret is sent.

use std::env;
use std::io::{self, BufRead, IsTerminal, Write};

use console::Term;
use outrigger_api::{SecretText, SetupRequest, Whoami};
use outrigger_trust::{CertificateDer, Kind, Pin, Token, chain_of, pem_of_certificates};

use crate::args::Login;
use crate::connect::{FIRST_LOOK, authority_of, read_token, token_of_environment};
use crate::contexts::{Context, Contexts};
use crate::style::Tone;
use crate::{Address, Client, Exit, Failure, Output, amounts, clock};

/// The port that a context's name leaves out.
const USUAL_PORT: u16 = 7640;

pub(crate) fn login(args: &Login, out: &mut Output) -> Result<Exit, Failure> {
    let address = Address::parse(&args.url)?;
    if !address.is_tls {
        return Err(Failure::Usage {
            message: format!("{} is plain HTTP, over which no token is sent", address.base()),
            hint: "a hub with --insecure-local asks for none; use it with --hub, or log in with https://".into(),
        });
    }
    // Read before anything is changed: a file that cannot be read must not be found only after the code is used up.
    let mut contexts = Contexts::load()?;
    let given = given(args, &address, out)?;
    let authority = authority_of(&address, &given)?;
    let text = SecretText(given.reveal());
    let token = match given.kind {
        Kind::Setup => set_up(&address, &authority, text, args)?,
        Kind::Api | Kind::Join | Kind::Session => text,
    };
    let client = Client::trusting(&address, std::slice::from_ref(&authority), Some(token.clone()));
    let who = client.whoami()?;
    let name = args.context.clone().unwrap_or_else(|| context_name(&address));
    let authority = pem_of_certificates(&[authority]);
    contexts.contexts.insert(name.clone(), Context { hub: address.base().to_owned(), authority, token });
    contexts.current = Some(name.clone());
    contexts.save()?;
    out.note(Tone::Good, &format!("logged in to {} as context {name}", address.base()));
    show(&who, out)?;
    Ok(Exit::Ok)
}

/// The token or code, from the command line, the environment, or the user at his keyboard.
fn given(args: &Login, address: &Address, out: &mut Output) -> Result<Token, Failure> {
    let stdin = |text: &String| if text == "-" { line_of_stdin() } else { Ok(text.clone()) };
    if let Some(code) = &args.setup_code {
        return read_token(&stdin(code)?, Kind::Setup);
    }
    if let Some(token) = &args.token {
        return read_token(&stdin(token)?, Kind::Api);
    }
    if let Some(token) = token_of_environment() {
        return read_token(&token.0, Kind::Api);
    }
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage {
            message: "there is neither a token nor anybody to ask for one".into(),
            hint: "give --token or --setup-code; `-` reads it from standard input".into(),
        });
    }
    let pin = shown_pin(address, out)?;
    let asked = |error: io::Error| Failure::Write(error);
    let _ = write!(io::stderr(), "Token or setup code (it is not shown): ");
    let text = Term::stderr().read_secure_line().map_err(asked)?;
    let token: Token = text.trim().parse()?;
    if token.pin != pin {
        return Err(Failure::Usage {
            message: "the token is of another hub than the one at this address; it was not sent".into(),
            hint: "check the address and the token".into(),
        });
    }
    let kind = if token.kind == Kind::Setup { Kind::Setup } else { Kind::Api };
    read_token(&text, kind)
}

/// Shows whose hub it is and asks whether that is right.
fn shown_pin(address: &Address, out: &mut Output) -> Result<Pin, Failure> {
    let chain = chain_of(&address.host, address.port, FIRST_LOOK)?;
    let last: &CertificateDer<'static> = chain
        .last()
        .ok_or_else(|| Failure::Answer { url: address.base().to_owned(), reason: "it shows no certificate".into() })?;
    let pin = Pin::of(last);
    out.note(Tone::Plain, &format!("The authority of the hub at {} has the fingerprint", address.base()));
    out.note(Tone::Strong, &format!("  {pin}"));
    let _ = write!(io::stderr(), "It is the third part of every token of that hub. Go on? [y/N] ");
    let answer = line_of_stdin()?;
    if matches!(answer.trim(), "y" | "Y" | "yes") {
        return Ok(pin);
    }
    Err(Failure::Usage { message: "not logged in".into(), hint: "nothing was sent and nothing was kept".into() })
}

fn line_of_stdin() -> Result<String, Failure> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}

fn set_up(
    address: &Address,
    authority: &CertificateDer<'static>,
    code: SecretText,
    args: &Login,
) -> Result<SecretText, Failure> {
    let name = args.user.clone().or_else(|| env::var("USER").ok()).unwrap_or_else(|| "admin".into());
    let client = Client::trusting(address, std::slice::from_ref(authority), None);
    Ok(client.set_up(&SetupRequest { code, name, password: None })?.secret)
}

fn context_name(address: &Address) -> String {
    let host = address.host.to_ascii_lowercase();
    if address.port == USUAL_PORT { host } else { format!("{host}:{}", address.port) }
}

pub(crate) fn whoami(client: &Client, out: &mut Output) -> Result<Exit, Failure> {
    show(&client.whoami()?, out)?;
    Ok(Exit::Ok)
}

fn show(who: &Whoami, out: &mut Output) -> Result<(), Failure> {
    out.answer(
        who,
        |who| vec![who.who.clone()],
        |who, look| {
            let reach = who.stacks.as_ref().map_or_else(|| "the whole fleet".into(), |stacks| stacks.join(", "));
            let ends = who.expires_unix_ms.map_or_else(String::new, |at| {
                format!(", for {}", amounts::age_ms(at.saturating_sub(clock::unix_ms())))
            });
            vec![format!("{}: {} of {reach}{ends}", look.paint.text(Tone::Strong, &who.who), who.role)]
        },
    )
}
