//! `tenure completions`: what clap generates, and the names of locks, which the shell asks `tenure ls` for.

use clap_complete::Shell;

use crate::args::{CompletionsArgs, definition};
use crate::exit::Failure;
use crate::out;

/// The subcommands whose argument is the name of a lock.
const NAMES: [&str; 8] = ["run", "once", "elect", "acquire", "ls", "show", "watch", "break"];

/// Prints the names of the locks that are held or waited for, with the URL and the namespace of the command line. Names
/// with a quote or a backslash are left out. `$1` and so on are the words of the command line.
const LIST: &str = r#"
    {
        local url= namespace= word before=
        for word in "$@"; do
            case $before in
                --url) url=$word ;;
                --namespace) namespace=$word ;;
            esac
            case $word in
                --url=*) url=${word#--url=} ;;
                --namespace=*) namespace=${word#--namespace=} ;;
            esac
            before=$word
        done
        command tenure ls --quiet --json ${url:+"--url=$url"} ${namespace:+"--namespace=$namespace"} 2> /dev/null < /dev/null |
            sed -n 's/^{"lock":"\([^"\\]*\)".*/\1/p' | head -n 1000
    }
"#;

/// bash: after clap's own function, if the word is no option and no option's value.
const BASH: &str = r#"
_tenure_lock_names() LIST
_tenure_and_locks() {
    _tenure "$@"
    local cur=${COMP_WORDS[COMP_CWORD]} at verb= name
    [[ $cur == -* ]] && return 0
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
            --) return 0 ;;
            VERBS) [[ -n $verb ]] || verb=${COMP_WORDS[at]} ;;
        esac
    done
    [[ -n $verb ]] || return 0
    case ${COMP_WORDS[COMP_CWORD-1]} in
        --url | --namespace | --reason | --token | --ttl | --wait | -w | --grace | --status-file | --permits | --of | -E | \
            --conflict-exit-code | --slot | --every | --at | --at-least | --value) return 0 ;;
    esac
    COMPREPLY=()
    while IFS= read -r name; do
        [[ $name == "$cur"* ]] && COMPREPLY+=("$(printf '%q' "$name")")
    done < <(_tenure_lock_names "${COMP_WORDS[@]}")
}
complete -F _tenure_and_locks -o bashdefault -o default tenure
"#;

/// zsh: a function that clap's calls where a name stands.
const ZSH: &str = r#"
_tenure_lock_names() LIST
_tenure_locks() {
    local -a locks
    locks=("${(@f)$(_tenure_lock_names "${words[@]}")}")
    (( ${#locks[1]} )) && compadd -a locks
}
"#;

/// fish: one more source of arguments.
const FISH: &str = r#"
function __fish_tenure_lock_names
    set -l options
    set -l before
    for word in (commandline -opc)
        switch "$before"
            case --url --namespace
                set -a options "$before=$word"
        end
        switch "$word"
            case '--url=*' '--namespace=*'
                set -a options "$word"
        end
        set before $word
    end
    command tenure ls --quiet --json $options 2> /dev/null < /dev/null | string replace -rf '^\{"lock":"([^"\\\\]*)".*' '$1' | head -n 1000
end
complete -c tenure -n "__fish_tenure_using_subcommand VERBS; and not contains -- -- (commandline -opc)" -f -a "(__fish_tenure_lock_names)"
"#;

/// The completion script for a shell.
///
/// # Errors
/// If stdout cannot be written.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<(), Failure> {
    let shell = match args.shell.as_str() {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        _ => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut definition(), "tenure", &mut script);
    out::print(&with_names(shell, &String::from_utf8_lossy(&script)))
}

fn with_names(shell: Shell, script: &str) -> String {
    let list = LIST.trim();
    match shell {
        Shell::Bash => script.to_owned() + &BASH.replace("LIST", list).replace("VERBS", &NAMES.join(" | ")),
        Shell::Zsh => {
            // clap knows no more of a name than that it is a text.
            let mut out = String::new();
            for line in script.lines() {
                let positional =
                    [":name -- ", "*::names -- ", "::prefix -- "].iter().any(|p| line.contains(p));
                let line =
                    if positional { line.replace(":_default'", ":_tenure_locks'") } else { line.to_owned() };
                out += &line;
                out.push('\n');
            }
            // Before what runs the function when the script is loaded by the first completion.
            let last = out.find("\nif [ \"$funcstack[1]\"").unwrap_or(out.len());
            out.insert_str(last, &ZSH.replace("LIST", list));
            out
        }
        _ => script.to_owned() + &FISH.replace("VERBS", &NAMES.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_in_each_script() {
        let script = |shell| {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut definition(), "tenure", &mut script);
            with_names(shell, &String::from_utf8_lossy(&script))
        };
        let zsh = script(Shell::Zsh);
        assert_eq!(zsh.matches(":_tenure_locks'").count(), NAMES.len(), "{zsh}");
        assert!(
            zsh.find("_tenure_locks()") < zsh.find("compdef _tenure tenure"),
            "it is defined before it is used"
        );
        assert!(script(Shell::Bash).contains("run | once | elect | acquire | ls | show | watch | break)"));
        assert!(script(Shell::Fish).contains("using_subcommand run once elect acquire ls show watch break;"));
    }
}
