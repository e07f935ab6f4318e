//! The address of a store's server in a URL.

use tenure::StoreUrl;

/// The port of a server on this machine, if the URL names one.
pub(crate) fn local_port(url: &str) -> Option<u16> {
    let usual = super::of(url).ok()?.port()?;
    let parsed = StoreUrl::parse(url).ok()?;
    let (host, port) = parsed.hosts.first().filter(|_| parsed.hosts.len() == 1)?;
    matches!(host.as_str(), "127.0.0.1" | "localhost").then(|| port.unwrap_or(usual))
}

/// The same URL by another port of this machine.
pub(crate) fn through(url: &str, port: u16) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    format!("{scheme}://{user}127.0.0.1:{port}{}", &rest[at..])
}

/// A URL without its password.
pub(crate) fn shown(url: &str) -> String {
    StoreUrl::parse(url).map_or_else(|_| url.to_owned(), |url| url.redacted())
}

/// The scheme of a URL.
pub(crate) fn scheme(url: &str) -> &str {
    url.split(':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_through_another_port() {
        for kind in super::super::servers() {
            let (scheme, usual) = (kind.scheme(), kind.port());
            for (rest, port) in [
                ("u:p@127.0.0.1:7/2?x=y", Some(7)),
                ("localhost/2", usual),
                ("127.0.0.1", usual),
                ("example.org:7", None),
            ] {
                assert_eq!(local_port(&format!("{scheme}://{rest}")), port, "{scheme}://{rest}");
            }
            let url = format!("{scheme}://u:p@localhost:7/2?x=y");
            assert_eq!(through(&url, 9), format!("{scheme}://u:p@127.0.0.1:9/2?x=y"));
        }
        assert_eq!(local_port(super::super::IN_PROCESS), None);
    }
}
