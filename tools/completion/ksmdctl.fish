# SPDX-License-Identifier: MIT
# fish completion of ksmdctl, ksm-run, ksmd-user, ksmd-fs and ksm-bench.
#
# Options and commands come from each program's own --help, names of attributes from the daemon.
# fish looks for a file by each command's name; all of them lead here.

function __ksmd_options
    $argv[1] --help 2>/dev/null | string match -arg '(?:^|[\s\[|])(--[a-z][a-z-]*)' | sort -u
end

function __ksmdctl_dir
    set -l words (commandline -opc)
    set -l at (contains -i -- --runtime-dir $words)
    and printf '%s\n' --runtime-dir $words[(math $at + 1)]
end

function __ksmdctl_commands
    ksmdctl --help 2>/dev/null | string match -rg '^  ([a-z]+)(?: [^ ]+)*  +(.*)$' |
        while read -L name
            read -L text
            printf '%s\t%s\n' $name $text
        end
end

function __ksmdctl_no_command
    set -l names (__ksmdctl_commands | string split -f1 \t)
    not __fish_seen_subcommand_from $names
end

# Attributes below what was typed.
function __ksmdctl_path
    set -l word (commandline -ct)
    set -l dir (string match -r '^.*/' -- $word)
    ksmdctl (__ksmdctl_dir) ls (string trim -rc / -- $dir) 2>/dev/null | string replace -r '^' -- "$dir"
end

# Is it still ksm-run that is spoken to, and not its command?
function __ksm_run_no_command
    set -l words (commandline -opc)[2..]
    while set -q words[1]
        switch $words[1]
            case --runtime-dir --view --preload --domain
                set -e words[1]
            case '-*'
            case '*'
                return 1
        end
        set -e words[1]
    end
end

complete -c ksm-run -f -n '__ksm_run_no_command; and string match -q -- "-*" (commandline -ct)' \
    -a "(__ksmd_options ksm-run)"
for program in ksmdctl ksmd-user ksmd-fs ksmd-metrics ksm-bench
    complete -c $program -f -n 'string match -q -- "-*" (commandline -ct)' -a "(__ksmd_options $program)"
    complete -c $program -l runtime-dir -x -a '(__fish_complete_directories)'
end
complete -c ksm-run -n __ksm_run_no_command -l runtime-dir -x -a '(__fish_complete_directories)'
complete -c ksmdctl -f
complete -c ksmdctl -n __ksmdctl_no_command -a '(__ksmdctl_commands)'
complete -c ksmdctl -n '__fish_seen_subcommand_from get set ls' -a '(__ksmdctl_path)'
complete -c ksmdctl -n '__fish_seen_subcommand_from help' \
    -a '(ksmdctl (__ksmdctl_dir) ls ksm/left_out 2>/dev/null)'
complete -c ksmdctl -n '__fish_seen_subcommand_from why estimate release join merge' \
    -a '(ksmdctl (__ksmdctl_dir) ls client 2>/dev/null | string trim -rc /)'
complete -c ksm-run -n __ksm_run_no_command -l malloc -x -a 'heap native'
complete -c ksm-run -n __ksm_run_no_command -l domain -x
complete -c ksm-run -n __ksm_run_no_command -l view -x -a '(__fish_complete_directories)'
complete -c ksm-run -n __ksm_run_no_command -l preload -r
complete -c ksm-run -x -a '(__fish_complete_subcommand --fcs-skip=1)'
complete -c ksmd-user -f
complete -c ksmd-user -l domain -x -a 'uid cgroup namespace process shared'
complete -c ksmd-user -l topology -x -a 'auto emulated:'
complete -c ksmd-user -l log-level -x -a 'error warning info debug'
complete -c ksmd-user -l domains-file -r
complete -c ksmd-user -l allow-group -x -a '(__fish_complete_groups)'
complete -c ksmd-user -l admin-group -x -a '(__fish_complete_groups)'
complete -c ksmd-metrics -f
complete -c ksmd-fs -x -a '(__fish_complete_directories)'
complete -c ksm-bench -f -a '(ksm-bench --help 2>/dev/null | string match -rg "^([a-z]+) ")'
