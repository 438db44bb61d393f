// SPDX-License-Identifier: Apache-2.0
// Guests: first a hello of fixed length, read by itself; then a channel like any other.
#include "transport/tcp/tcp_door.hpp"

#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/loop/accept.hpp"
#include "transport/secure/socket_owner.hpp"
#include "transport/tcp/tcp_connection.hpp"
#include "transport/tcp/tcp_sockets.hpp"

#include <cstring>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <utility>

namespace kvferry {

namespace {

/// How often strangers are looked at.
constexpr std::chrono::milliseconds look_interval{500};

/// Connections that are taken before everything else gets its turn.
constexpr int accepts_max = 32;

/// Answers that may wait for a peer that does not read them.
constexpr std::uint64_t answers_bytes_max = std::uint64_t{64} << 10;

/// Frames do not wait for turns.
std::optional<flow> bulk_of(const tcp_hello& x) {
    if (x.lane == tcp_lane::frames)
        return std::nullopt;
    return flow{.urgency = x.urgency, .peer = x.sender.value};
}

} // namespace

class tcp_door::guest final : public socket_poll::watcher, public tcp_channel::owner {
public:
    guest(tcp_door& door, std::uint64_t number, std::unique_ptr<byte_stream> stream)
        : door_(door), number_(number), name_(peer_name(stream->fd())), stream_(std::move(stream)) {
    }

    caf::error watch() {
        auto watched = door_.with_.poll->watch(stream_->fd(), EPOLLIN, *this);
        if (!watched)
            return std::move(watched.error());
        registration_ = std::move(*watched);
        return {};
    }

    const std::string& name() const { return name_; }

    /// Says why, then waits among the strangers until the peer has read it and closes: a close with
    /// bytes of the peer unread would take the text away from it.
    void refuse(const caf::error& why) {
        const auto text = text_of(why).substr(0, refusal_bytes_max);
        const auto* bytes = reinterpret_cast<const caf::byte*>(text.data());
        std::vector<std::uint64_t> none;
        out_.add(tcp_record::refused, {bytes, bytes + text.size()});
        (void)out_.write(*stream_, 2 * refusal_bytes_max, none);
        ::shutdown(stream_->fd(), SHUT_WR);
        refused_ = true;
    }

    /// Nothing of it is called any more. `in_order`: the peer has closed it; then it has read what
    /// was said here, if that was before the answer to its flush. Who closes asks nothing more, so
    /// questions may be left.
    void end(bool in_order) {
        registration_.reset();
        door_.with_.retire(std::move(channel_));
        stream_.reset();
        std::vector<std::uint64_t> tags;
        const auto all_is_read = in_order && is_closing_ && !out_.has_more_than(tcp_record::flush);
        out_.drop(tags);
        for (auto tag : tags)
            door_.with_.events.push_back({wire_event::kind::posted, lent_to_, tag});
        if (auto* user = door_.with_.find(std::exchange(lent_to_, {})))
            all_is_read ? user->way_back_settled() : user->way_back_ended();
    }

    void ready(std::uint32_t) override {
        if (refused_)
            return ignore();
        if (!secured_) {
            auto wants = stream_->secure();
            if (!wants)
                return door_.send_away(number_, wants.error());
            registration_.want(*wants ? *wants : EPOLLIN);
            if (*wants)
                return;
            secured_ = true;
        }
        const iovec rest{hello_.data() + got_, hello_.size() - got_};
        const auto moved = stream_->read(std::span{&rest, 1});
        if (moved.problem)
            return door_.send_away(number_, moved.problem);
        if (moved.error != 0 || moved.ended)
            return door_.send_away(number_,
                                   make_error(errc::malformed_message, "it went without a hello"));
        got_ += moved.bytes;
        if (got_ == hello_.size())
            welcome();
    }

    void over(tcp_channel&, caf::error why) override { door_.send_away(number_, why); }

    void posted(tcp_channel&, const std::vector<std::uint64_t>& tags) override {
        for (auto tag : tags)
            door_.with_.events.push_back({wire_event::kind::posted, lent_to_, tag});
    }

    bool is_lent_to(endpoint_id to) const { return lent_to_ == to; }
    bool is_of(incarnation peer) const { return channel_ && sender_ == peer; }
    /// It is of a link that is over on this side, and will end with it on the peer's.
    void never_lend() { is_spent_ = true; }
    bool may_be_lent(incarnation peer) const {
        return channel_ && hears_ && sender_ == peer && !is_spent_ && !is_closing_
               && lent_to_ == endpoint_id{};
    }
    tcp_way lend(endpoint_id to) {
        lent_to_ = to;
        return is_closing_ ? tcp_way{} : way();
    }
    tcp_way way() { return {&out_, channel_.get()}; }
    /// It tells nobody any more. True: it held memory that is not its own.
    bool take_back(std::vector<std::uint64_t>& tags) {
        lent_to_ = {};
        is_spent_ = true;
        if (!out_.has_tags())
            return false;
        out_.drop(tags);
        return true;
    }

private:
    void ignore() {
        static thread_local std::array<std::byte, 4096> nowhere;
        const iovec all{nowhere.data(), nowhere.size()};
        const auto moved = stream_->read(std::span{&all, 1});
        if (moved.error != 0 || moved.ended || moved.problem)
            door_.send_away(number_, {});
    }

    void welcome() {
        auto& with = door_.with_;
        auto hello = parse_hello({reinterpret_cast<const caf::byte*>(hello_.data()), got_});
        if (hello && hello->lane == tcp_lane::plain_bulk) // a refusal goes the same way
            stream_->drop_protection();
        auto problem = hello ? check_hello(*hello, with.with.self, with.secret) : hello.error();
        if (!problem && hello->lane == tcp_lane::plain_bulk && !with.with.plain_bulk)
            problem = make_error(errc::foreign_peer,
                                 "it wants to send bytes of pages without protection, which this "
                                 "rank does not take: say plain_bulk on both sides, or on neither");
        // A stranger who does not even know the first bytes is told nothing.
        if (code_of(problem) == errc::malformed_message)
            return door_.send_away(number_, problem);
        if (problem) {
            door_.note(*this, problem);
            return refuse(problem);
        }
        door_.strangers_.erase(number_);
        door_.by_address_.leave(static_cast<stranger_ledger::id>(number_));
        registration_.reset();
        tcp_reader reader{
            with.user, with.payload_bytes_max(),
            [this](tcp_record what, byte_view payload) { return on_record(what, payload); }};
        auto made = tcp_channel::make(*with.poll, std::move(stream_), false, std::move(reader),
                                      out_, *this, bulk_of(*hello), with.movers.get());
        if (!made)
            return door_.send_away(number_, made.error());
        channel_ = std::move(*made);
        sender_ = hello->sender;
        hears_ = hello->hears && hello->lane == tcp_lane::frames;
        out_.add(tcp_record::welcome);
        channel_->ready(EPOLLIN); // frames came with the hello, most likely
    }

    caf::error on_record(tcp_record what, byte_view payload) {
        if (auto* user = door_.with_.find(lent_to_); user && what == tcp_record::flushed)
            return user->on_flushed(payload, true);
        if (what == tcp_record::flushed && is_spent_) // who has asked is gone
            return {};
        if (what != tcp_record::flush)
            return make_error(errc::malformed_message, "an answer on a connection for questions");
        if (out_.bytes() > answers_bytes_max)
            return make_error(errc::limit_exceeded, "it does not read what it has asked for");
        out_.add(tcp_record::flushed, {payload.begin(), payload.end()});
        is_closing_ = true;
        channel_->write_soon();
        return {};
    }

    tcp_door& door_;
    std::uint64_t number_;
    std::string name_;
    std::unique_ptr<byte_stream> stream_;
    std::array<std::byte, tcp_hello_bytes> hello_ = {};
    std::size_t got_ = 0;
    bool secured_ = false;
    bool refused_ = false;
    tcp_outbox out_;
    std::unique_ptr<tcp_channel> channel_;
    incarnation sender_;
    /// It takes messages that come back.
    bool hears_ = false;
    /// Of this side, that says its first messages here.
    endpoint_id lent_to_;
    /// The peer has asked whether all has arrived, as it does before it closes the connection:
    /// nothing is said here any more, so nothing is lost with it.
    bool is_closing_ = false;
    bool is_spent_ = false;
    /// Until the hello is read.
    socket_poll::registration registration_;
};

tcp_door::tcp_door(tcp_context& with, unique_fd fd)
    : with_(with),
      fd_(std::move(fd)), by_address_{{with.with.bounds.wire_strangers_per_address_max,
                                       with.with.bounds.wire_strangers_max, SIZE_MAX}} {}

void tcp_door::let_go() {
    leaving_.clear();
}

caf::expected<std::unique_ptr<tcp_door>> tcp_door::make(tcp_context& with) {
    auto fd = tcp_listen(with.with.listen);
    if (!fd)
        return std::move(fd.error());
    std::unique_ptr<tcp_door> result{new tcp_door(with, std::move(*fd))};
    auto watched = with.poll->watch(result->fd_.get(), EPOLLIN, *result);
    if (!watched)
        return std::move(watched.error());
    result->registration_ = std::move(*watched);
    return result;
}

tcp_door::~tcp_door() {
    for (auto& [number, x] : guests_)
        x->end(false);
    *self_ = nullptr;
}

tcp_way tcp_door::way_back(incarnation peer, endpoint_id to) {
    guest* free = nullptr;
    for (auto& [number, x] : guests_) {
        if (x->is_lent_to(to))
            return x->lend(to);
        if (x->may_be_lent(peer))
            free = x.get(); // the youngest: others may be of links that are over
    }
    return free ? free->lend(to) : tcp_way{};
}

tcp_way tcp_door::way_lent_to(endpoint_id to) {
    for (auto& [number, x] : guests_)
        if (x->is_lent_to(to))
            return x->way();
    return {};
}

std::vector<std::uint64_t> tcp_door::give_back(endpoint_id from, incarnation peer) {
    std::vector<std::uint64_t> tags;
    for (auto& [number, x] : guests_)
        if (x->is_of(peer))
            x->never_lend();
    for (auto& [number, x] : guests_)
        if (x->is_lent_to(from)) {
            if (x->take_back(tags))
                send_away(number, {}); // it may be in the middle of a record
            break;
        }
    return tags;
}

std::uint16_t tcp_door::port() const {
    return port_of(fd_.get());
}

void tcp_door::ready(std::uint32_t) {
    for (int left = accepts_max; left > 0; --left) {
        auto fd = accept_connection(fd_.get());
        if (!fd)
            return rest(accept_rest);
        if (!*fd)
            return; // the door is watched by level: who waits behind one that has gone wakes us
                    // again
        let_in(std::move(*fd));
    }
}

/// What is in the queue stays there.
void tcp_door::rest(std::chrono::milliseconds wait) {
    registration_.want(0);
    with_.user->after(wait, [self = std::weak_ptr{self_}] {
        if (auto door = self.lock(); door && *door)
            (*door)->registration_.want(EPOLLIN);
    });
}

void tcp_door::let_in(unique_fd fd) {
    prepare_connection(fd.get(), silence_max(with_.with.bounds));
    const auto number = ++last_guest_;
    const auto from = peer_address(fd.get());
    auto fresh = std::make_unique<guest>(*this, number,
                                         with_.stream_over(std::move(fd), stream_role::acceptor));
    if (auto problem = fresh->watch()) {
        logger().warn("tcp wire: {} cannot come in: {}", fresh->name(), describe(problem));
        return;
    }
    for (auto gone : by_address_.enter(static_cast<stranger_ledger::id>(number), from))
        send_away(static_cast<std::uint64_t>(gone),
                  make_error(errc::limit_exceeded, "it has said nothing, and others wait"));
    guests_.emplace(number, std::move(fresh));
    strangers_.emplace(number, std::chrono::steady_clock::now());
    look_for_late_ones();
}

void tcp_door::look_for_late_ones() {
    if (std::exchange(looking_, true))
        return;
    with_.user->after(look_interval, [self = std::weak_ptr{self_}] {
        const auto held = self.lock();
        if (!held || !*held)
            return;
        auto& door = **held;
        door.looking_ = false;
        const auto late = std::chrono::steady_clock::now() - door.with_.with.bounds.dial_deadline;
        while (!door.strangers_.empty() && door.strangers_.begin()->second <= late)
            door.send_away(door.strangers_.begin()->first,
                           make_error(errc::deadline_exceeded, "it has not said hello in time"));
        if (!door.strangers_.empty())
            door.look_for_late_ones();
    });
}

void tcp_door::send_away(std::uint64_t number, const caf::error& why) {
    auto found = guests_.extract(number);
    if (!found)
        return;
    strangers_.erase(number);
    by_address_.leave(static_cast<stranger_ledger::id>(number));
    if (why)
        note(*found.mapped(), why);
    found.mapped()->end(!why);
    leaving_.push_back(std::move(found.mapped()));
}

/// Logged at every power of two only: anyone who reaches the port can come again for ever.
void tcp_door::note(const guest& who, const caf::error& why) {
    if (const auto count = ++sent_away_; (count & (count - 1)) == 0)
        logger().warn("tcp wire: {} is sent away, number {}: {}", who.name(), count, describe(why));
}

} // namespace kvferry
