//! The address of a store's server in a URL.

use tenure::StoreUrl;

/// The ports of the servers that the URL names, if all are on this machine.
pub(crate) fn local_ports(url: &str) -> Option<Vec<u16>> {
    let usual = super::of(url).ok()?.port()?;
    let hosts = StoreUrl::parse(url).ok()?.hosts;
    let local = |host: &str| matches!(host, "127.0.0.1" | "localhost");
    let ports = hosts.iter().map(|(host, port)| local(host).then(|| port.unwrap_or(usual)));
    ports.collect::<Option<Vec<u16>>>().filter(|ports| !ports.is_empty())
}

/// The same URL by other ports of this machine.
pub(crate) fn through(url: &str, ports: impl IntoIterator<Item = u16>) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let user = if user.is_empty() { String::new() } else { format!("{user}@") };
    let hosts: Vec<String> = ports.into_iter().map(|port| format!("127.0.0.1:{port}")).collect();
    format!("{scheme}://{user}{}{}", hosts.join(","), &rest[at..])
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
                let ports = port.map(|port| vec![port]);
                assert_eq!(local_ports(&format!("{scheme}://{rest}")), ports, "{scheme}://{rest}");
            }
            let url = format!("{scheme}://u:p@localhost:7/2?x=y");
            assert_eq!(through(&url, [9]), format!("{scheme}://u:p@127.0.0.1:9/2?x=y"));
            let several = format!("{scheme}://localhost:7,127.0.0.1:8?x=y");
            assert_eq!(local_ports(&several), Some(vec![7, 8]));
            assert_eq!(local_ports(&format!("{scheme}://localhost:7,example.org:8")), None);
            assert_eq!(through(&several, [9, 10]), format!("{scheme}://127.0.0.1:9,127.0.0.1:10?x=y"));
        }
        assert_eq!(local_ports(super::super::IN_PROCESS), None);
    }
}
