// Names the sockets of a process: "5 tcp 127.0.0.1:50051 listening".
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/xattr.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <sstream>

#include "ipc/audit/parts.hpp"

namespace cleanfork::ipc::audit_parts {

namespace {

using inode = unsigned long long;
using socket_names = std::map<inode, std::string>;

// "0100007F:1F90" as "127.0.0.1:8080": words of 32 bits in the byte order of this machine.
std::string address(const std::string& text) {
    const std::size_t colon = text.find(':');
    if (colon != 8 && colon != 32) return text;
    std::array<std::uint32_t, 4> words{};
    for (std::size_t i = 0; i * 8 < colon; ++i)
        words[i] = to_number<std::uint32_t>(std::string_view(text).substr(i * 8, 8), 16);
    const int port = to_number(std::string_view(text).substr(colon + 1), 16);
    char host[INET6_ADDRSTRLEN] = "";
    const bool six = colon == 32;
    ::inet_ntop(six ? AF_INET6 : AF_INET, words.data(), host, sizeof host);
    return (six ? "[" + std::string(host) + "]" : std::string(host)) + ":" + std::to_string(port);
}

// Lines of /proc/net/tcp and its like, documented in proc_net_tcp of the kernel.
void read_internet(const std::string& text, const std::string& protocol, socket_names& names) {
    constexpr std::string_view k_listening = "0A";
    std::istringstream lines(text);
    std::string line;
    std::getline(lines, line);  // the heading
    while (std::getline(lines, line)) {
        std::istringstream words(line);
        std::string number, local, remote, state, skipped;
        inode node = 0;
        words >> number >> local >> remote >> state;
        for (int i = 0; i < 5; ++i) words >> skipped;
        words >> node;
        std::string name = protocol + " " + address(local);
        if (protocol.starts_with("tcp") && state == k_listening)
            name += " listening";
        else if (!remote.ends_with(":0000"))
            name += " to " + address(remote);
        names[node] = std::move(name);
    }
}

// "0000: 00000002 00000000 00010000 0001 01 4711 /run/socket", the name may be missing.
void read_unix(const std::string& text, socket_names& names) {
    std::istringstream lines(text);
    std::string line;
    while (std::getline(lines, line)) {
        std::istringstream words(line);
        std::string number, references, protocol, flags, type, state, path;
        inode node = 0;
        if (!(words >> number >> references >> protocol >> flags >> type >> state >> node))
            continue;
        std::getline(words >> std::ws, path);
        const char* kind = type == "0001"   ? "unix stream"
                           : type == "0002" ? "unix datagram"
                                            : "unix seqpacket";
        names[node] = path.empty() ? kind : kind + (" " + path);
    }
}

// The name of the protocol only, but in any network namespace: "NETLINK".
std::string protocol_of(int dir, const std::string& descriptor) {
    const std::string path = "/proc/self/fd/" + std::to_string(dir) + "/" + descriptor;
    std::array<char, 64> name{};
    const ssize_t size =
        ::getxattr(path.c_str(), "system.sockprotoname", name.data(), name.size() - 1);
    return size > 0 ? name.data() : "";
}

}  // namespace

void describe_sockets(audit_report& report, int dir, const std::string& to_process) {
    const auto is_socket = [](const finding& f) { return f.kind == hazard::socket; };
    if (std::none_of(report.findings.begin(), report.findings.end(), is_socket)) return;
    socket_names names;
    for (const char* protocol : {"tcp", "tcp6", "udp", "udp6"})
        if (const auto text = read_file(dir, to_process + "net/" + protocol))
            read_internet(*text, protocol, names);
    if (const auto text = read_file(dir, to_process + "net/unix")) read_unix(*text, names);
    for (finding& f : report.findings) {
        if (!is_socket(f)) continue;
        const auto node = to_number<inode>(std::string_view(f.name).substr(f.name.find('[') + 1));
        const auto known = names.find(node);
        std::string name = known != names.end()
                               ? known->second
                               : protocol_of(dir, to_process + "fd/" + std::to_string(f.number));
        if (name.empty()) continue;
        f.name = std::move(name);
        f.what = std::to_string(f.number) + " " + f.name;
    }
}

}  // namespace cleanfork::ipc::audit_parts
