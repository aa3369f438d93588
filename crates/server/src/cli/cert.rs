//! `convoke cert`: a certificate for a bot's webhook, from our own authority.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{Ended, Sources};
use crate::certs::{self, Authority};

/// Issues a certificate for a webhook, which notifications trust
///
/// Writes HOST.pem (the certificate and the authority's) and HOST-key.pem. They hold for 397 days.
#[derive(Debug, Args)]
#[command(after_long_help = "Examples:\n  \
    convoke cert localhost\n  \
    convoke cert bot.example.net 192.0.2.7 --out /etc/bot")]
pub(super) struct Cert {
    /// Host names and addresses; the first names the files
    #[arg(required = true, value_name = "HOST")]
    hosts: Vec<String>,
    /// Where to write the files
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    #[command(flatten)]
    sources: Sources,
}

impl Cert {
    pub(super) fn run(self) -> Ended {
        let data = self.sources.load(Vec::new())?.config.data;
        let authority = Authority::open(&data)?;
        let issued = authority.issue(&self.hosts)?;
        std::fs::create_dir_all(&self.out)?;
        let stem: String = self.hosts[0].chars().map(|c| if matches!(c, '/' | ':' | '*') { '_' } else { c }).collect();
        let (chain, key) = (self.out.join(format!("{stem}.pem")), self.out.join(format!("{stem}-key.pem")));
        certs::write_secret(&key, &issued.key)?;
        std::fs::write(&chain, &issued.chain)?;
        println!("certificate  {}", chain.display());
        println!("key          {}", key.display());
        println!("authority    {}", authority.path().display());
        Ok(ExitCode::SUCCESS)
    }
}
