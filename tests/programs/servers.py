# SPDX-License-Identifier: MIT
"""Servers: what is stored comes back, whatever happens to the daemon."""

import hashlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import threading
import urllib.request

import tier

def record(i, tag, size):
    return hashlib.shake_128(f"{tag} {i}".encode()).digest(size)


def receive(s, size):
    parts = []
    while size:
        part = s.recv(min(size, 1 << 20))
        if not part:
            raise tier.Wrong("the server hung up")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


class Store(tier.Program):
    """Two servers with the same records, over a local socket."""

    merges = 1200
    stored = b""
    count, size = 2000, 4000
    together = 100

    def start(self):
        self.tags = [0] * self.count
        self.servers, self.sockets = [], []
        for i in range(2):
            path = str(self.r.dir / f"{i}.sock")
            self.servers.append(self.r.start(f"{self.name}-{i}", self.argv(path)))
            self.sockets.append(tier.wait_for(self.name, lambda: self.connect(path),
                                              self.servers[-1]))
        self.set(range(self.count), "first")

    def connect(self, path):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(tier.PATIENCE)
        try:
            s.connect(path)
        except OSError:
            s.close()
            return None
        return s

    def talk(self, asked, wanted):
        for s in self.sockets:
            s.sendall(asked)
        for s in self.sockets:
            tier.expect(self.name, receive(s, len(wanted)), wanted)

    def set(self, which, tag):
        for first in range(0, len(which), self.together):
            part = which[first:first + self.together]
            for i in part:
                self.tags[i] = tag
            self.talk(b"".join(self.store(i, record(i, tag, self.size)) for i in part),
                      self.stored * len(part))

    def work(self, n):
        self.set(range(n % 5, self.count, 3), f"round {n}")
        self.check()

    def check(self):
        for first in range(0, self.count, self.together):
            part = range(first, min(first + self.together, self.count))
            self.talk(b"".join(self.fetch(i) for i in part),
                      b"".join(self.fetched(i, record(i, self.tags[i], self.size)) for i in part))

    def stop(self):
        for s in self.sockets:
            s.close()
        for p in self.servers:
            self.r.stop(p)


class Redis(Store):
    """It also forks while it works, to save its data."""

    name, packages, needs = "redis", ("redis-server",), ("redis-server",)
    stored = b"+OK\r\n"

    def argv(self, path):
        return ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir",
                self.r.dir, "--dbfilename", pathlib.Path(path).name + ".rdb"]

    def store(self, i, value):
        return b"*3\r\n$3\r\nSET\r\n$12\r\nkey:%08d\r\n$%d\r\n%b\r\n" % (i, len(value), value)

    def fetch(self, i):
        return b"*2\r\n$3\r\nGET\r\n$12\r\nkey:%08d\r\n" % i

    def fetched(self, _, value):
        return b"$%d\r\n%b\r\n" % (len(value), value)

    def work(self, n):
        for s in self.sockets:
            s.sendall(b"BGSAVE SCHEDULE\r\n")
            answer = b""
            while not answer.endswith(b"\r\n"):
                answer += receive(s, 1)
            if not answer.startswith((b"+Background saving", b"-ERR Background save already")):
                raise tier.Wrong(f"redis: {answer}")
        super().work(n)

    def stop(self):
        super().stop()
        for i in range(2):
            self.r.do(["redis-check-rdb", self.r.dir / f"{i}.sock.rdb"], plain=True)


class Memcached(Store):
    name, packages, needs = "memcached", ("memcached",), ("memcached",)
    stored = b"STORED\r\n"
    count, size, together = 130, 60000, 10

    def argv(self, path):
        return ["memcached", "-s", path, "-m", "64", "-M", "-t", "2",
                *(["-u", "root"] if os.geteuid() == 0 else [])]

    def store(self, i, value):
        return b"set key%d 0 0 %d\r\n%b\r\n" % (i, len(value), value)

    def fetch(self, i):
        return b"get key%d\r\n" % i

    def fetched(self, i, value):
        return b"VALUE key%d 0 %d\r\n%b\r\nEND\r\n" % (i, len(value), value)


class Postgres(tier.Program):
    """pgbench moves money; the sums must agree, and so must the indices (amcheck)."""

    name, packages = "postgresql", ("postgresql", "postgresql-contrib")
    options = ("--fixed-layout",)
    merges = 300
    user = "postgres"

    @classmethod
    def bin(cls):
        return next(iter(sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))), None)

    @classmethod
    def missing(cls):
        return [] if cls.bin() and (cls.bin() / "pgbench").exists() else ["pgbench"]

    def start(self):
        bin_dir, r = self.bin(), self.r
        data = r.directory("data", self.user)
        os.chmod(data, 0o700)
        r.do([bin_dir / "initdb", "-D", data, "-A", "trust", "-N"], self.user, plain=True)
        self.sockets = r.directory("sockets", self.user)
        self.server = r.start("postgres", [
            bin_dir / "postgres", "-D", data, "-k", self.sockets, "-h", "", "-c", "fsync=off",
            "-c", "shared_buffers=32MB", "-c", "max_connections=30"], self.user)
        tier.wait_for("postgres", lambda: subprocess.run(
            [bin_dir / "pg_isready", "-h", self.sockets, "-q"], check=False).returncode == 0,
            self.server)
        self.tool("pgbench", "-i", "-s", "2", "-q", "postgres")
        self.sql("create extension if not exists amcheck")
        # Sessions that stay, as a pool of connections has them: each has caches of its own.
        psql = [bin_dir / "psql", *self.where(), "-qAtX", "postgres"]
        self.sessions = [r.start(f"psql-{i}", psql, self.user, plain=True, stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE) for i in range(8)]
        self.in_sessions()

    def where(self):
        return ["-h", str(self.sockets), "-U", self.user if os.geteuid() == 0 else
                tier.pwd.getpwuid(os.geteuid()).pw_name]

    def tool(self, name, *args):
        return self.r.do([self.bin() / name, *self.where(), *args], self.user, plain=True)

    def sql(self, text):
        return self.tool("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-c", text,
                         "postgres").decode().split()

    def in_sessions(self):
        wanted = hashlib.md5(",".join(map(str, range(1, 30001))).encode()).hexdigest()
        for p in self.sessions:
            p.stdin.write(b"select md5(string_agg(x::text, ',' order by x)) from "
                          b"(select x from generate_series(30000, 1, -1) x order by x) t;\n"
                          b"\\d pg_class\n\\echo end\n")
            p.stdin.flush()
        for p in self.sessions:
            tier.expect("a sorted series", p.stdout.readline().decode().strip(), wanted)
            while p.stdout.readline() not in (b"end\n", b""):
                pass

    def work(self, n):
        self.tool("pgbench", "-c", "4", "-j", "2", "-T", "1", "-n", "postgres")
        self.in_sessions()

    def check(self):
        sums = self.sql("select (select sum(abalance) from pgbench_accounts),"
                        "(select sum(tbalance) from pgbench_tellers),"
                        "(select sum(bbalance) from pgbench_branches),"
                        "(select coalesce(sum(delta), 0) from pgbench_history)")[0].split("|")
        if len(set(sums)) != 1:
            raise tier.Wrong(f"money is not conserved: {sums}")
        self.sql("select bt_index_check('pgbench_accounts_pkey', true)")
        self.in_sessions()

    def stop(self):
        for p in self.sessions:
            p.stdin.close()
            self.r.ended(p)
        self.r.stop(self.server, signal.SIGINT, (0,))


class MariaDb(tier.Program):
    """Two servers on copies of the same files: InnoDB's buffer pools hold the same pages."""

    name, packages, needs = "mariadb", ("mariadb-server",), ("mariadbd", "mariadb-install-db")
    user = "mysql"
    merges = 1500

    def start(self):
        r = self.r
        as_user = [f"--user={self.user}"] if os.geteuid() == 0 else []
        r.directory("0", self.user)
        r.do(["mariadb-install-db", "--no-defaults", f"--datadir={r.dir}/0",
              "--auth-root-authentication-method=normal", "--skip-test-db", *as_user], plain=True)
        self.argv = lambda i: [
            "mariadbd", "--no-defaults", f"--datadir={r.dir}/{i}", f"--socket={r.dir}/{i}/sock",
            f"--pid-file={r.dir}/{i}/pid", "--skip-networking",
            "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=0",
            "--innodb-use-native-aio=0", "--innodb-buffer-pool-load-at-startup=0", *as_user]
        first = r.start("mariadb-first", self.argv(0), plain=True)
        self.ready(0, first)
        self.sql(0, "create database t; use t; create table r (id int primary key, tag int, "
                    "s varchar(2000)) engine=innodb; insert into r select seq, 0, "
                    "repeat(concat(seq, ':'), 100) from seq_1_to_12000; "
                    "create table money (id int primary key, v int) engine=innodb; "
                    "insert into money select seq, 100 from seq_1_to_100")
        r.stop(first)
        tier.subprocess.run(["cp", "-a", r.dir / "0", r.dir / "1"], check=True)
        self.servers = [r.start(f"mariadb-{i}", self.argv(i)) for i in range(2)]
        for i, p in enumerate(self.servers):
            self.ready(i, p)
        self.check()

    def ready(self, i, process):
        tier.wait_for("mariadb", lambda: subprocess.run(
            ["mariadb-admin", "--no-defaults", f"--socket={self.r.dir}/{i}/sock", "-uroot",
             "ping"], capture_output=True, check=False).returncode == 0, process)

    def sql(self, i, text):
        return self.r.do(["mariadb", "--no-defaults", f"--socket={self.r.dir}/{i}/sock", "-uroot",
                          "-NB", "-e", text], plain=True).decode().split()

    def work(self, n):
        for i in range(2):
            self.sql(i, f"use t; update r set tag = tag + 1 where id % 7 = {n % 7}; "
                        f"start transaction; update money set v = v - {n} where id = {n % 50 + 1}; "
                        f"update money set v = v + {n} where id = {n % 50 + 51}; commit")
            self.look(i)

    def look(self, i):
        said = self.sql(i, "use t; select count(*), sum(s = repeat(concat(id, ':'), 100)) from r; "
                           "select sum(v) from money")
        tier.expect("mariadb", said, ["12000", "12000", "10000"])

    def check(self):
        for i in range(2):
            self.look(i)
        tables = [self.sql(i, "checksum table t.r, t.money") for i in range(2)]
        tier.expect("two servers' tables", *tables)

    def stop(self):
        for i, p in enumerate(self.servers):
            tier.expect("mariadb", self.sql(i, "check table t.r, t.money")[3::4][:2], ["OK", "OK"])
            self.r.stop(p)


class Web(tier.Program):
    """Web servers of the same files, which read their configuration again while they serve."""

    options = ("--fixed-layout",)
    instances = families = 2
    workers_stop = signal.SIGTERM

    def start(self):
        self.files = {f"f{i}.bin": hashlib.shake_128(str(i).encode()).digest(4096 * i + 17)
                      for i in range(40)}
        docs = self.r.directory("docs")
        for name, data in self.files.items():
            (docs / name).write_bytes(data)
        self.ports, self.servers = [], []
        for i in range(self.instances):
            self.ports.append(tier.free_port())
            home = self.r.directory(f"{self.name}-{i}.d")
            self.servers.append(self.r.start(f"{self.name}-{i}",
                                             self.argv(i, home, docs, self.ports[i])))
        self.check(wait=True)

    def get(self, port, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}",
                                    timeout=tier.PATIENCE) as answer:
            return answer.read()

    def answers(self, port):
        try:
            return self.get(port, "f0.bin")
        except OSError:
            return None

    def work(self, n):
        for p in self.servers[:self.families]:
            p.send_signal(self.again)
        self.check()

    def check(self, wait=False):
        wrong = []

        def one(port, names):
            try:
                for name in names:
                    tier.expect(name, self.get(port, name), self.files[name])
            except Exception as e:  # pylint: disable=broad-exception-caught
                wrong.append(e)

        if wait:
            for port, p in zip(self.ports, self.servers):
                tier.wait_for(self.name, lambda port=port: self.answers(port), p)
        threads = [threading.Thread(target=one, args=(port, sorted(self.files)))
                   for port in self.ports for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        if wrong:
            raise tier.Wrong(f"{self.name}: {wrong[0]}{tier.tail(self.servers[0].log)}")

    def stop(self):
        for p in self.servers:
            self.r.stop(p)


class Nginx(Web):
    """Workers run as another user than the masters that they were forked from.

    What a master read before it forked stays its family's, so two servers are single processes:
    their tables merge however soon a master forks. (Those cannot read theirs again: nginx serves
    nobody after that.)
    """

    name, packages, needs = "nginx", ("nginx-light",), ("nginx",)
    again = signal.SIGHUP
    instances = 4
    merges = 400
    rests = True

    def argv(self, i, home, docs, port):
        # A large table, as those who redirect much have; each answer is checked against it.
        entries = "\n".join(f"/from/{i}/some/longer/path /to/{i}/another/path;"
                            for i in range(20000))
        (home / "map").write_text(entries, encoding="ascii")
        (home / "conf").write_text(f"""
            daemon off; master_process {"on" if i < self.families else "off"};
            worker_processes 2; pid {home}/pid; error_log {home}/error.log;
            {"user www-data;" if os.geteuid() == 0 else ""}
            events {{ worker_connections 64; }}
            http {{
                access_log off; map_hash_max_size 65536; map_hash_bucket_size 128;
                client_body_temp_path {home}/b; proxy_temp_path {home}/p;
                fastcgi_temp_path {home}/f; uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
                map $uri $other {{ include {home}/map; }}
                server {{
                    listen 127.0.0.1:{port}; root {docs};
                    location /from {{ return 200 $other; }}
                    location / {{ sendfile off; }}
                }}
            }}""", encoding="ascii")
        return ["nginx", "-p", home, "-c", home / "conf"]

    def check(self, wait=False):
        super().check(wait)
        for port in self.ports:
            for i in range(0, 20000, 977):
                tier.expect("nginx", self.get(port, f"from/{i}/some/longer/path"),
                            b"/to/%d/another/path" % i)


class Apache(Web):
    name, packages, needs = "apache", ("apache2",), ("/usr/sbin/apache2",)
    again = signal.SIGUSR1

    def argv(self, _, home, docs, port):
        modules = pathlib.Path("/usr/lib/apache2/modules")
        loads = "\n".join(f"LoadModule {m}_module {modules}/mod_{m}.so" for m in
                          ("mpm_prefork", "authz_core", "authz_host", "mime", "rewrite", "alias"))
        aliases = "\n".join(f"Redirect /old/{i} http://127.0.0.1/new/{i}" for i in range(4000))
        (home / "conf").write_text(f"""
            ServerRoot {home}
            ServerName localhost
            {loads}
            Listen 127.0.0.1:{port}
            PidFile {home}/pid
            ErrorLog {home}/error.log
            {"User www-data" if os.geteuid() == 0 else ""}
            StartServers 4
            EnableMMAP off
            EnableSendfile off
            TypesConfig /etc/mime.types
            DocumentRoot {docs}
            {aliases}
            <Directory {docs}>
                Require all granted
            </Directory>
            """, encoding="ascii")
        return ["/usr/sbin/apache2", "-f", home / "conf", "-D", "FOREGROUND"]


ALL = [Redis, Memcached, Postgres, MariaDb, Nginx, Apache]
