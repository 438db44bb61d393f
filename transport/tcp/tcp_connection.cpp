// SPDX-License-Identifier: Apache-2.0
// Dialling: all hosts of the peer, one shortly after the other, until one says welcome.
#include "transport/tcp/tcp_connection.hpp"

#include "messages/trace/log.hpp"
#include "messages/values/error_format.hpp"
#include "transport/tcp/tcp_door.hpp"
#include "transport/tcp/tcp_sockets.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace kvferry {

namespace {

/// After this long the next host of the peer is tried as well.
constexpr std::chrono::milliseconds next_host_after{250};

/// Bytes of puts that may wait for one socket: enough to keep it busy while the loop does other
/// things, and little enough that a cancel is over soon.
constexpr std::uint64_t waiting_bytes_max = std::uint64_t{1} << 20;

/// The same while puts share the frames' socket, because their own is not up yet.
constexpr std::uint64_t early_bytes_max = std::uint64_t{128} << 10;

/// Longest message of a put.
constexpr std::uint64_t piece_bytes_max = std::uint64_t{256} << 10;

constexpr wire_room no_room{.bytes = 0,
                            .piece_bytes_max = piece_bytes_max,
                            .turn_bytes_max = piece_bytes_max,
                            .bundle_bytes_max = piece_bytes_max,
                            .bundle_stretches_max = bundle_stretches_max};

bool is_end(fabric_message what) {
    return what == fabric_message::write_end || what == fabric_message::reported_end;
}

bool is_bulk(fabric_message what) {
    return what == fabric_message::write || what == fabric_message::bundle || is_end(what);
}

} // namespace

tcp_connection::tcp_connection(tcp_context& with, tcp_address to, incarnation peer, endpoint_id id)
    : with_(with), to_(std::move(to)), peer_(peer), id_(id) {
    frames_.retain();
}

tcp_connection::~tcp_connection() {
    end(true);
    if (writing_ > 0) {
        logger().critical("tcp wire: a connection goes while {} threads write its bytes", writing_);
        std::abort();
    }
    with_.connections.erase(id_);
}

// -- dialling -----------------------------------------------------------------------------------

void tcp_connection::dial() {
    with_.user->after(with_.with.bounds.dial_deadline, [&with = with_, id = id_] {
        if (auto* late = with.find(id); late && !late->frame_channel_)
            late->lose(make_error(errc::deadline_exceeded, "nobody said welcome in time{}",
                                  late->obstacles_));
    });
    dial_next_host();
}

caf::expected<std::unique_ptr<tcp_channel>>
tcp_connection::open(const std::string& host, tcp_lane lane, std::uint64_t number, tcp_outbox& out,
                     priority urgency) {
    auto fd = tcp_dial(host, to_.port);
    if (!fd)
        return std::move(fd.error());
    prepare_connection(fd->get(), silence_max(with_.with.bounds));
    tcp_reader answers{nullptr, 0, [this, lane, number](tcp_record what, byte_view payload) {
                           return on_record(lane, number, what, payload);
                       }};
    std::optional<flow> bulk;
    if (lane != tcp_lane::frames)
        bulk = flow{.urgency = urgency, .peer = peer_.value};
    auto channel = tcp_channel::make(
        *with_.poll,
        with_.stream_over(std::move(*fd), stream_role::dialler, lane == tcp_lane::bulk), true,
        std::move(answers), out, *this, bulk, with_.movers.get());
    if (channel) {
        (*channel)->prologue().add_raw(pack_hello(
            {peer_, with_.with.self, to_.secret, lane, lane == tcp_lane::frames, urgency}));
        if (lane == tcp_lane::plain_bulk)
            (*channel)->drop_protection_after_prologue();
    }
    return channel;
}

void tcp_connection::dial_next_host() {
    while (!ended_ && !frame_channel_ && next_host_ < to_.hosts.size()) {
        const auto& host = to_.hosts[next_host_++];
        const auto number = ++last_dial_;
        auto channel = open(host, tcp_lane::frames, number, nothing_);
        if (!channel) {
            refuse(number, add_context(channel.error(), "{}", host));
            continue;
        }
        candidates_.emplace(number, candidate{host, std::move(*channel)});
        if (next_host_ < to_.hosts.size())
            with_.user->after(next_host_after, [&with = with_, id = id_, number] {
                if (auto* x = with.find(id); x && x->last_dial_ == number)
                    x->dial_next_host();
            });
        return;
    }
    if (!ended_ && !frame_channel_ && candidates_.empty())
        lose(make_error(nobody_listens_ ? errc::dial_failed : errc::link_lost, "nobody answers{}",
                        obstacles_));
}

/// This dial has failed: others go on, or the next one begins.
void tcp_connection::refuse(std::uint64_t dialled, const caf::error& why) {
    obstacles_ += "; " + text_of(why);
    nobody_listens_ = nobody_listens_ && code_of(why) == errc::dial_failed;
    if (auto found = candidates_.extract(dialled))
        with_.retire(std::move(found.mapped().channel));
    if (favourite_ == dialled) {
        favourite_ = 0;
        frames_.rewind();
        for (auto& [number, other] : candidates_)
            if (other.channel->is_connected()) {
                connected(*other.channel);
                break;
            }
    }
}

/// The first to be connected writes frames at once: as a rule it is the right one, and then first
/// contact takes a round trip less. What it wrote is kept until it is welcomed.
void tcp_connection::connected(tcp_channel& channel) {
    if (frame_channel_ || favourite_ != 0)
        return;
    for (auto& [number, x] : candidates_)
        if (x.channel.get() == &channel) {
            favourite_ = number;
            channel.use(frames_);
        }
}

void tcp_connection::welcomed(std::uint64_t dialled) {
    auto found = candidates_.extract(dialled);
    if (frame_channel_ || !found)
        return;
    if (favourite_ != dialled) {
        frames_.rewind();
        if (auto other = candidates_.find(favourite_); other != candidates_.end())
            other->second.channel->use(nothing_);
        found.mapped().channel->use(frames_);
    }
    frames_.release();
    frame_channel_ = std::move(found.mapped().channel);
    frame_dial_ = dialled;
    frame_channel_->hear(with_.user, with_.payload_bytes_max());
    host_ = found.mapped().host;
    for (auto& [number, other] : std::exchange(candidates_, {}))
        with_.retire(std::move(other.channel));
    frame_channel_->write_soon();
    if (!way_back_matters_)
        return;
    std::uint64_t number = 0;
    auto& wait = new_flush(number);
    wait.settles_way_back = true;
    ask_way_back(number, wait);
}

void tcp_connection::dial_bulk() {
    for (std::size_t index = 0; index < with_.with.bulk_sockets; ++index) {
        if (auto problem = dial_lane(bulk_.emplace_back(), priority::normal))
            return lose(std::move(problem));
    }
}

caf::error tcp_connection::dial_lane(bulk_lane& lane, priority urgency) {
    auto channel = open(host_, with_.with.plain_bulk ? tcp_lane::plain_bulk : tcp_lane::bulk,
                        ++last_dial_, lane.out, urgency);
    if (!channel)
        return std::move(channel.error());
    lane.channel = std::move(*channel);
    return {};
}

// -- answers ------------------------------------------------------------------------------------

caf::error tcp_connection::on_record(tcp_lane lane, std::uint64_t dialled, tcp_record what,
                                     byte_view payload) {
    const std::string text{reinterpret_cast<const char*>(payload.data()), payload.size()};
    switch (what) {
    case tcp_record::welcome:
        if (lane == tcp_lane::frames)
            welcomed(dialled);
        return {};
    case tcp_record::refused:
        return make_error(errc::link_lost, "the peer refuses this rank: {}", text);
    case tcp_record::flushed:
        return on_flushed(payload, false);
    case tcp_record::flush:
        return on_flush(dialled, payload);
    }
    return make_error(errc::malformed_message, "a record of unknown kind");
}

/// The peer's own connection is welcomed: everything that came back here has been read.
caf::error tcp_connection::on_flush(std::uint64_t dialled, byte_view payload) {
    if (!frame_channel_ || dialled != frame_dial_)
        return make_error(errc::malformed_message, "a question on a connection for answers");
    if (frames_.messages() > with_.with.bounds.pending_per_link_max)
        return make_error(errc::limit_exceeded, "it does not read what it has asked for");
    frames_.add(tcp_record::flushed, {payload.begin(), payload.end()});
    frame_channel_->write_soon();
    return {};
}

caf::error tcp_connection::on_flushed(byte_view payload, bool on_way_back) {
    std::uint64_t number = 0;
    if (payload.size() == sizeof number)
        std::memcpy(&number, payload.data(), sizeof number);
    const auto found = flushes_.find(number);
    if (found == flushes_.end())
        return make_error(errc::malformed_message, "an answer to no flush");
    if (on_way_back && !std::exchange(found->second.asks_way_back, false))
        return make_error(errc::malformed_message, "an answer to a flush that was not asked here");
    flush_answered(number);
    return {};
}

void tcp_connection::flush_answered(std::uint64_t number) {
    const auto found = flushes_.find(number);
    if (--found->second.answers > 0)
        return;
    if (found->second.settles_way_back)
        way_back_matters_ = false;
    else
        with_.events.push_back({wire_event::kind::flushed, id_, found->second.tag});
    flushes_.erase(found);
}

void tcp_connection::way_back_settled() {
    way_back_matters_ = false;
    std::vector<std::uint64_t> asked;
    for (auto& [number, wait] : flushes_)
        if (std::exchange(wait.asks_way_back, false))
            asked.push_back(number);
    for (auto number : asked)
        flush_answered(number);
}

void tcp_connection::way_back_ended() {
    if (way_back_matters_)
        lose(make_error(errc::link_lost, "the peer has closed its own connection"));
}

void tcp_connection::post(const std::vector<std::uint64_t>& tags) {
    for (auto tag : tags)
        with_.events.push_back({wire_event::kind::posted, id_, tag});
}

void tcp_connection::over(tcp_channel& channel, caf::error why) {
    const auto reason =
        why ? std::move(why) : make_error(errc::link_lost, "the peer has closed it");
    for (auto& [number, x] : candidates_)
        if (x.channel.get() == &channel) {
            const auto host = x.host;
            refuse(number, add_context(reason, "{}", host));
            return dial_next_host();
        }
    lose(add_context(reason, "{} port {}", host_, to_.port));
}

// -- what the fabric sends ------------------------------------------------------------------------

/// Null outbox: the peer has no connection here that hears, or closes it.
tcp_way tcp_connection::way_back() {
    return with_.door ? with_.door->way_back(peer_, id_) : tcp_way{};
}

/// Before it is welcomed it speaks on the connection that its peer has made, if there is one: then
/// the answer to a first request waits for no dial of this side.
tcp_way tcp_connection::way_for(fabric_message what) {
    if (is_bulk(what) && !bulk_.empty()) {
        // The end of a put goes behind its last piece; pieces go where the least waits.
        if (!is_end(what)) {
            const auto least =
                std::min_element(bulk_.begin(), bulk_.end(), [](const auto& a, const auto& b) {
                    return a.out.bytes() < b.out.bytes();
                });
            if (least->channel->is_connected())
                last_bulk_ = static_cast<std::size_t>(least - bulk_.begin());
        }
        if (auto& lane = bulk_[last_bulk_]; lane.channel->is_connected())
            return {&lane.out, lane.channel.get()};
    }
    if (!frame_channel_)
        if (const auto back = way_back(); back.out) {
            way_back_matters_ = true;
            return back;
        }
    return way_of_frames();
}

tcp_way tcp_connection::way_of_frames() {
    auto favourite = candidates_.find(favourite_);
    return {&frames_, frame_channel_                   ? frame_channel_.get()
                      : favourite == candidates_.end() ? nullptr
                                                       : favourite->second.channel.get()};
}

tcp_way tcp_connection::way_over(std::optional<bulk_lane>& lane) {
    if (!frame_channel_)
        return way_for(fabric_message::write);
    if (lane && lane->channel && lane->channel->is_connected())
        return {&lane->out, lane->channel.get()};
    return way_of_frames();
}

void tcp_connection::send(fabric_message what, byte_view head, byte_buffer payload,
                          std::uint64_t tag) {
    send_over(way_for(what), what, head, std::move(payload), tag);
}

void tcp_connection::send_over(tcp_way to, fabric_message what, byte_view head, byte_buffer payload,
                               std::uint64_t tag) {
    if (ended_)
        return;
    to.out->add(static_cast<std::uint8_t>(what), head, std::move(payload), tag);
    if (to.channel)
        to.channel->write_soon();
}

bool tcp_connection::send_from(fabric_message what, byte_view head, byte_view payload,
                               std::uint64_t tag) {
    return send_gathered(what, head, std::span{&payload, 1}, tag);
}

bool tcp_connection::send_gathered(fabric_message what, byte_view head,
                                   std::span<const byte_view> payload, std::uint64_t tag) {
    return gather_over(way_for(what), what, head, payload, tag);
}

bool tcp_connection::gather_over(tcp_way to, fabric_message what, byte_view head,
                                 std::span<const byte_view> payload, std::uint64_t tag) {
    if (ended_)
        return true;
    to.out->add_from(static_cast<std::uint8_t>(what), head, payload, tag);
    if (to.channel)
        to.channel->write_soon();
    return false;
}

wire_room tcp_connection::room_over(std::optional<bulk_lane>& lane, priority urgency) {
    if (ended_ || !frame_channel_) // what goes on the way back has no classes
        return room();
    auto result = no_room;
    if (!lane)
        if (auto problem = dial_lane(lane.emplace(), urgency)) {
            lose(std::move(problem));
            return result;
        }
    const auto own = lane->channel->is_connected();
    const auto most = own ? waiting_bytes_max : early_bytes_max;
    result.bytes = most - std::min(most, own ? lane->out.bytes() : frames_.bytes());
    return result;
}

wire_room tcp_connection::room() {
    auto result = no_room;
    if (ended_)
        return result;
    if (!frame_channel_) { // until then a put that was not posted has failed, not in doubt
        if (const auto back = way_back(); back.out)
            result.bytes = early_bytes_max - std::min(early_bytes_max, back.out->bytes());
        return result;
    }
    if (bulk_.empty())
        dial_bulk();
    if (ended_)
        return result;
    bool any = false;
    for (const auto& lane : bulk_)
        if (lane.channel->is_connected()) {
            any = true;
            result.bytes += waiting_bytes_max - std::min(waiting_bytes_max, lane.out.bytes());
        }
    if (!any)
        result.bytes = early_bytes_max - std::min(early_bytes_max, frames_.bytes());
    return result;
}

// -- ends -----------------------------------------------------------------------------------------

void tcp_connection::flush(std::uint64_t tag) {
    if (ended_)
        return;
    std::uint64_t number = 0;
    auto& wait = new_flush(number);
    wait.tag = tag;
    ask_flushed(number, wait, way_of_frames());
    for (auto& lane : bulk_)
        ask_flushed(number, wait, {&lane.out, lane.channel.get()});
    for (auto* of_class : {&high_, &low_})
        if (auto& lane = of_class->lane)
            ask_flushed(number, wait, {&lane->out, lane->channel.get()});
    if (way_back_matters_)
        ask_way_back(number, wait);
}

void tcp_connection::ask_way_back(std::uint64_t number, flush_wait& wait) {
    const auto back = with_.door ? with_.door->way_lent_to(id_) : tcp_way{};
    wait.asks_way_back = back.out != nullptr;
    if (wait.asks_way_back)
        ask_flushed(number, wait, back);
}

tcp_connection::flush_wait& tcp_connection::new_flush(std::uint64_t& number) {
    number = ++last_flush_;
    return flushes_[number];
}

void tcp_connection::ask_flushed(std::uint64_t number, flush_wait& wait, tcp_way on) {
    byte_buffer payload(sizeof number);
    std::memcpy(payload.data(), &number, sizeof number);
    on.out->add(tcp_record::flush, std::move(payload));
    ++wait.answers;
    if (on.channel)
        on.channel->write_soon();
}

void tcp_connection::close(bool force) {
    end(force);
}

void tcp_connection::lose(caf::error why) {
    if (ended_)
        return;
    // Where nobody listens nobody will: an address is that of one process.
    const auto unreachable = !frame_channel_ && code_of(why) == errc::dial_failed;
    with_.events.push_back({wire_event::kind::broken, id_, 0,
                            make_error(unreachable ? errc::dial_failed : errc::link_lost,
                                       "link to incarnation {}: {}", peer_, text_of(why))});
    end(true);
}

void tcp_connection::end(bool force) {
    if (std::exchange(ended_, true))
        return;
    const auto let_go = [&](std::unique_ptr<tcp_channel> channel) {
        if (channel) {
            force ? abandon_connection(channel->fd()) : channel->finish();
            writing_ += channel->is_writing_apart() ? 1 : 0;
        }
        with_.retire(std::move(channel));
    };
    for (auto& [number, x] : std::exchange(candidates_, {}))
        let_go(std::move(x.channel));
    let_go(std::move(frame_channel_));
    std::vector<std::uint64_t> tags;
    frames_.drop(tags);
    if (with_.door)
        for (auto tag : with_.door->give_back(id_, peer_))
            tags.push_back(tag);
    post(tags);
    for (auto& lane : bulk_)
        let_go(std::move(lane.channel));
    for (auto* of_class : {&high_, &low_})
        if (auto& lane = of_class->lane)
            let_go(std::move(lane->channel));
    if (writing_ == 0)
        closed();
}

/// Of a socket that has ended.
void tcp_connection::done_writing(tcp_channel&) {
    if (--writing_ == 0)
        closed();
}

/// Nobody reads memory of the fabric any more.
void tcp_connection::closed() {
    std::vector<std::uint64_t> tags;
    for (auto& lane : bulk_)
        lane.out.drop(tags);
    for (auto* of_class : {&high_, &low_})
        if (auto& lane = of_class->lane)
            lane->out.drop(tags);
    post(tags);
    with_.events.push_back({wire_event::kind::closed, id_});
}

} // namespace kvferry
