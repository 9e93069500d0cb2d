//! argv to `Config` to a running house to an exit code. No logic.

use std::io::Write;
use std::process::ExitCode;

use pistream::access;
use pistream::camera;
use pistream::config::Config;
use pistream::error::Result;
use pistream::journal;
use pistream::net::server::Server;

fn main() -> ExitCode {
    let config = match Config::read() {
        Ok(config) => config,
        Err(exit) if exit.code == 0 => {
            println!("{}", exit.text);
            return ExitCode::SUCCESS;
        }
        Err(exit) => {
            eprintln!("{}", exit.text);
            return ExitCode::from(exit.code);
        }
    };
    if config.list_cameras {
        print!("{}", camera::list());
        return ExitCode::SUCCESS;
    }
    if let Some(who) = &config.hash_password {
        return match access::read_line(who, std::io::stderr()) {
            Ok(line) => {
                println!("{line}");
                ExitCode::SUCCESS
            }
            Err(reason) => {
                eprintln!("pistream: {reason}");
                ExitCode::FAILURE
            }
        };
    }
    match serve(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pistream: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: &Config) -> Result<()> {
    let (journal, ending) = journal::start()?;
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format(|out, record| writeln!(out, "{:5} {}", record.level(), record.args()))
        .target(env_logger::Target::Pipe(Box::new(journal)))
        .init();
    let served = Server::open(config).and_then(Server::run);
    ending.finish();
    served
}
