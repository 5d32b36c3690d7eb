# SPDX-License-Identifier: MIT
# bash completion of ksmdctl, ksm-run, ksmd-user, ksmd-fs and ksm-bench.
#
# Options and commands come from each program's own --help, names of attributes from the daemon, so
# nothing here has to follow them.

# Options of the program $1, of a letter or long; those that take a value as in "--malloc=" have it.
_ksmd_options()
{
	"$1" --help 2>/dev/null | grep -oE '(^|[] ,|[])-(-[a-z][a-z-]*|[a-z]\b)' |
		sed 's/^[^-]*//' | sort -u
}

# What may stand behind the option $2 of the program $1: in its --help "heap|native", or "=heap".
_ksmd_values()
{
	"$1" --help 2>/dev/null | sed -nE -e "s/^ +$2=([a-z]+) .*/\1/p" \
		-e "s/^ +$2[ =]([a-z:N]+(\|[a-zN:]+)+).*/\1/p" | tr '|' '\n'
}

# Complete an option or the value of one. Fails when the word is neither.
_ksmd_option()
{
	local program=$1 cur=$2 prev=$3 values

	# Where "=" is a word of its own.
	[[ $cur != = ]] || cur=
	[[ $prev != = ]] || prev=${COMP_WORDS[COMP_CWORD - 2]}
	case $prev in
	--runtime-dir | --view) # a directory
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		compopt -o filenames 2>/dev/null
		return 0
		;;
	--domains-file | --pressure | --preload | --svg | --update)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		compopt -o filenames 2>/dev/null
		return 0
		;;
	--allow-group | --admin-group)
		mapfile -t COMPREPLY < <(compgen -g -- "$cur")
		return 0
		;;
	-*)
		values=$(_ksmd_values "$program" "$prev")
		if [[ $values ]]; then
			mapfile -t COMPREPLY < <(compgen -W "$values" -- "$cur")
			return 0
		fi
		;;
	esac
	[[ $cur == -* ]] || return 1
	mapfile -t COMPREPLY < <(compgen -W "$(_ksmd_options "$program")" -- "$cur")
}

# Attributes below what was typed: a directory ends with a slash, and goes on.
_ksmdctl_path()
{
	local cur=$1 dir= name
	shift

	[[ $cur != */* ]] || dir=${cur%/*}/
	while read -r name; do
		[[ $dir$name != "$cur"* ]] || COMPREPLY+=("$dir$name")
	done < <(ksmdctl "$@" ls "${dir%/}" 2>/dev/null)
	[[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != */ ]] || compopt -o nospace 2>/dev/null
}

_ksmdctl()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local command= args=0 i dir=()

	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--runtime-dir) dir=(--runtime-dir "${COMP_WORDS[++i]}") ;;
		-d | -n | --delay | --count | --listen) ((++i)) ;;
		-*) ;;
		*) if [[ $command ]]; then ((++args)); else command=${COMP_WORDS[i]}; fi ;;
		esac
	done
	! _ksmd_option "${COMP_WORDS[0]}" "$cur" "$prev" || return 0
	case $command in
	'')
		mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" --help 2>/dev/null |
			sed -nE 's/^  ([a-z]+) .*/\1/p')" -- "$cur")
		;;
	get | set | ls)
		[[ $args -gt 0 ]] || _ksmdctl_path "$cur" "${dir[@]}"
		;;
	help)
		mapfile -t COMPREPLY < <(compgen -W "$(ksmdctl "${dir[@]}" ls ksm/left_out \
			2>/dev/null)" -- "$cur")
		;;
	why | estimate | release | join | merge)
		mapfile -t COMPREPLY < <(compgen -W "$(ksmdctl "${dir[@]}" ls client 2>/dev/null |
			tr -d /)" -- "$cur")
		;;
	esac
}

_ksm_run()
{
	local i cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}

	COMPREPLY=()
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--runtime-dir | --view | --preload | --domain | =) ((++i)) ;;
		-*) ;;
		*) break ;;
		esac
	done
	if ((i < COMP_CWORD)); then
		if declare -F _command_offset >/dev/null; then
			_command_offset "$i"
		else
			mapfile -t COMPREPLY < <(compgen -f -- "$cur")
			compopt -o filenames 2>/dev/null
		fi
		return
	fi
	_ksmd_option "${COMP_WORDS[0]}" "$cur" "$prev" ||
		mapfile -t COMPREPLY < <(compgen -c -- "$cur")
}

_ksmd_other()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}

	COMPREPLY=()
	! _ksmd_option "${COMP_WORDS[0]}" "$cur" "$prev" || return 0
	case ${COMP_WORDS[0]##*/} in
	ksmd-fs)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		compopt -o filenames 2>/dev/null
		;;
	ksm-bench)
		mapfile -t COMPREPLY < <(compgen -W "$("${COMP_WORDS[0]}" --help 2>/dev/null |
			sed -nE 's/^([a-z]+) .*/\1/p')" -- "$cur")
		;;
	esac
}

complete -F _ksmdctl ksmdctl
complete -F _ksm_run ksm-run
complete -F _ksmd_other ksmd-user ksmd-fs ksmd-metrics ksm-bench
