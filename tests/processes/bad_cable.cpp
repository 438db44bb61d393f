// SPDX-License-Identifier: Apache-2.0
// One thread carries the packets of both directions.
#include "tests/processes/bad_cable.hpp"

#include "tests/processes/machines.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <linux/if_tun.h>
#include <net/if.h>
#include <optional>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

namespace kvferry::testing {

namespace {

/// As a switch that is full: what comes on top is lost.
constexpr std::size_t packets_max = 4000;
constexpr std::chrono::milliseconds late_by{1};
constexpr std::size_t packet_bytes_max = 65536;

unique_fd make_end(const std::string& machine) {
    return run_on(machine, "eth", [] {
        unique_fd end{::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK)};
        ifreq wanted{};
        std::strcpy(wanted.ifr_name, "eth");
        wanted.ifr_flags = IFF_TAP | IFF_NO_PI;
        return end && ::ioctl(end.get(), TUNSETIFF, &wanted) == 0 ? std::move(end) : unique_fd{};
    });
}

std::uint16_t number_at(const std::vector<std::byte>& bytes, std::size_t at) {
    std::uint16_t result = 0;
    std::memcpy(&result, bytes.data() + at, sizeof result);
    return ntohs(result);
}

struct tcp_packet {
    std::uint16_t from = 0;
    std::uint16_t to = 0;
    /// The first of a connection.
    bool knocks = false;
    std::size_t payload = 0;
};

/// Over IPv4; nothing: it is something else.
std::optional<tcp_packet> tcp_of(const std::vector<std::byte>& ethernet) {
    constexpr std::size_t ip = 14;
    if (ethernet.size() < ip + 20 || number_at(ethernet, 12) != 0x0800
        || ethernet[ip + 9] != std::byte{IPPROTO_TCP})
        return std::nullopt;
    const auto tcp = ip + 4 * (std::to_integer<std::size_t>(ethernet[ip]) & 0xf);
    if (ethernet.size() < tcp + 20)
        return std::nullopt;
    const auto payload = tcp + 4 * (std::to_integer<std::size_t>(ethernet[tcp + 12]) >> 4);
    const std::size_t end = ip + number_at(ethernet, ip + 2);
    return tcp_packet{.from = number_at(ethernet, tcp),
                      .to = number_at(ethernet, tcp + 2),
                      .knocks = (ethernet[tcp + 13] & std::byte{0x12}) == std::byte{0x02},
                      .payload = end > payload ? end - payload : 0};
}

bool is_let_through(const std::vector<std::byte>& ethernet, const cable_quality& how) {
    const auto packet = tcp_of(ethernet);
    return !packet
           || (!(how.only_to_port != 0 && packet->knocks && packet->to != how.only_to_port)
               && !(how.words_only_of_port != 0 && packet->payload > 0
                    && packet->from != how.words_only_of_port));
}

} // namespace

std::unique_ptr<bad_cable> bad_cable::make(const std::string& a, const std::string& b) {
    std::array<unique_fd, 2> ends{make_end(a), make_end(b)};
    if (!ends[0] || !ends[1])
        return nullptr;
    return std::unique_ptr<bad_cable>{new bad_cable(std::move(ends))};
}

bad_cable::bad_cable(std::array<unique_fd, 2> ends)
    : wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    lanes_[a_to_b].from = std::move(ends[0]);
    lanes_[b_to_a].from = std::move(ends[1]);
    thread_ = std::thread{[this] { run(); }};
}

bad_cable::~bad_cable() {
    {
        std::lock_guard guard{mutex_};
        over_ = true;
    }
    ::eventfd_write(wake_.get(), 1);
    thread_.join();
}

void bad_cable::set(direction which, cable_quality x) {
    std::lock_guard guard{mutex_};
    lanes_[which].quality = x;
}

void bad_cable::run() {
    std::array<pollfd, 3> all{{{lanes_[0].from.get(), POLLIN, 0},
                               {lanes_[1].from.get(), POLLIN, 0},
                               {wake_.get(), POLLIN, 0}}};
    for (;;) {
        auto next = clock::time_point::max();
        {
            std::lock_guard guard{mutex_};
            if (over_)
                return;
            for (std::size_t which : {0, 1}) {
                take(lanes_[which]);
                deliver(lanes_[which], lanes_[1 - which].from.get());
                if (!lanes_[which].under_way.empty())
                    next = std::min(next, lanes_[which].under_way.top().due);
            }
        }
        timespec wait{1, 0};
        const auto left = std::clamp<std::chrono::nanoseconds>(
            next == clock::time_point::max() ? std::chrono::nanoseconds::max()
                                             : next - clock::now(),
            std::chrono::nanoseconds{0}, std::chrono::milliseconds{500});
        wait = {0, static_cast<long>(left.count())};
        ::ppoll(all.data(), all.size(), &wait, nullptr);
    }
}

/// A few at a time, so that both directions get their turn.
void bad_cable::take(lane& x) {
    packet bytes(packet_bytes_max);
    for (int left = 64; left > 0; --left) {
        const auto count = ::read(x.from.get(), bytes.data(), bytes.size());
        if (count <= 0)
            return;
        const auto& how = x.quality;
        const auto drawn = random_() % 1000;
        packet taken(bytes.begin(), bytes.begin() + count);
        if (how.silent || drawn < how.lost_per_mille || x.under_way.size() >= packets_max
            || !is_let_through(taken, how))
            continue;
        auto due = clock::now() + how.delay;
        if (how.bytes_per_second > 0) {
            const std::chrono::nanoseconds takes{count * std::nano::den
                                                 / static_cast<std::int64_t>(how.bytes_per_second)};
            x.busy_until = std::max(x.busy_until, clock::now()) + takes;
            due = x.busy_until + how.delay;
        }
        if (random_() % 1000 < how.late_per_mille)
            due += late_by;
        x.under_way.push({due, ++last_, std::move(taken)});
    }
}

void bad_cable::deliver(lane& x, int to) {
    for (const auto now = clock::now(); !x.under_way.empty() && x.under_way.top().due <= now;
         x.under_way.pop()) {
        const auto& bytes = x.under_way.top().bytes;
        if (!x.quality.silent)
            (void)!::write(to, bytes.data(), bytes.size());
    }
}

} // namespace kvferry::testing
