// SPDX-License-Identifier: Apache-2.0
// One link, from its dial to its end: who has introduced himself, who was answered, what is there
// of endpoint, same-host link and mappings, when a quiet peer is lost, and what a lost link still
// waits for.
//
// A value. Its events are what happens to the link, its effects what the link does; the order of
// effects matters.
#pragma once

#include "actors/decisions/links/link_pulse.hpp"
#include "actors/decisions/links/peer_memory.hpp"
#include "messages/errors.hpp"
#include "messages/limits.hpp"
#include "messages/local/devices.hpp"
#include "messages/local/recycled.hpp"
#include "messages/trace/rank_counters.hpp"
#include "messages/values/ids.hpp"
#include "messages/values/link_terms.hpp"
#include "messages/values/peer_view.hpp"
#include "messages/values/rank_info.hpp"
#include "messages/values/time.hpp"
#include "messages/wire/protocol.hpp"

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace kvferry {

class handshake {
public:
    struct dependencies {
        limits bounds;
        rank_info self;
        std::vector<memory_region> regions;
        /// Number of this dial, or of this accepted link: no other link of this rank has it.
        dial_id dial;
        /// Whom to dial; for an accepted link what it said of itself.
        rank_info peer;
        /// Set on the accepting side: the dialler's first message.
        std::optional<register_rank_info> introduction;
        /// This rank has a same-host link.
        bool has_host_link = false;
        /// How many devices can be asked to map the peer's regions.
        std::size_t devices = 0;
    };

    // -- events ---------------------------------------------------------------------------------

    /// `closed`: why this rank takes no peer; a dialler is told.
    struct started {
        caf::error closed = {};
    };
    /// `version`: of the peer's regions that it was made with.
    struct endpoint_made {
        endpoint_id endpoint;
        bool by_rma = false;
        std::uint64_t version = 0;
    };
    struct endpoint_denied {
        caf::error reason;
    };
    struct endpoint_broken {
        endpoint_id endpoint;
        caf::error reason;
    };
    /// The endpoint is closed, after its last frame.
    struct endpoint_left {};
    struct host_link_made {
        std::vector<mapped_region> mapped;
        bool process_watched = false;
        bool inherited = false;
        std::map<std::uint32_t, std::string> obstacles = {};
        /// Of regions on the peer's devices.
        std::map<std::uint32_t, device_chunks> chunks = {};
    };
    /// It cannot be made, or its peer has closed it. `duplicate`: another link waits for the end of
    /// the process.
    struct host_link_ended {
        caf::error reason;
    };
    struct process_ended {};
    struct device_answered {
        int device = 0;
        std::uint64_t version = 0;
        caf::expected<peer_regions_mapped> answer;
    };
    /// The fabric knows the peer's regions (show_regions).
    struct regions_shown {};
    /// The time that wakes_at() named. `awaited`: somebody waits for this peer.
    struct looked {
        bool awaited = false;
    };
    /// Something was sent: whoever waits for an answer now would not be told of a silent peer.
    struct stirred {};
    struct told_to_close {
        caf::error reason;
        bool goodbye = true;
        std::chrono::milliseconds within = std::chrono::milliseconds::max();
    };
    struct told_to_exit {
        caf::error reason;
    };
    /// An introduction, or what may answer one: these start the order of the peer's messages.
    struct arrived {
        wire_message message;
        caf::error closed = {};
    };
    /// A message, in order.
    struct heard {
        wire_message message;
    };
    /// The link cannot go on, for a reason that the peer cannot know.
    struct broken {
        caf::error reason;
    };

    using event =
        std::variant<started, endpoint_made, endpoint_denied, endpoint_broken, endpoint_left,
                     host_link_made, host_link_ended, process_ended, device_answered, regions_shown,
                     looked, stirred, told_to_close, told_to_exit, arrived, heard, broken>;

    // -- effects --------------------------------------------------------------------------------

    struct make_endpoint {
        std::uint64_t version = 0;
        std::vector<memory_region> regions;
    };
    struct drop_endpoint {
        endpoint_id endpoint;
        bool force = true;
    };
    /// Closes it behind the last frame; then `endpoint_left`.
    struct leave_endpoint {
        endpoint_id endpoint;
    };
    struct dial_host_link {};
    struct expect_host_link {};
    struct ask_devices {
        std::uint64_t version = 0;
        std::vector<memory_region> regions;
        std::vector<mapped_region> mapped_by_host;
        std::map<std::uint32_t, device_chunks> chunks;
    };
    /// The fabric may use what the same-host link has mapped.
    struct show_mappings {
        endpoint_id endpoint;
        std::vector<mapped_region> mapped;
    };
    /// Then `regions_shown`: until then nothing is heard that may make this rank write there.
    struct show_regions {
        endpoint_id endpoint;
        std::vector<memory_region> regions;
    };
    /// `as`: the incarnation that it is sent from.
    struct transmit {
        wire_message message;
        incarnation as;
    };
    /// The peer counts from here.
    struct expect {
        std::uint64_t behind = 0;
    };
    /// It answers nothing: it is a message among others.
    struct enqueue {
        wire_message message;
    };
    /// The view lacks the link's actor and its awaited.
    struct come_up {
        std::shared_ptr<peer_view> view;
        std::optional<offer_regions> offer;
    };
    /// What is said goes out from now on, behind the introduction: the peer may refuse it all. The
    /// view says so.
    struct speak_early {
        std::shared_ptr<peer_view> view;
    };
    /// The peer has offered regions.
    struct renew_view {
        std::shared_ptr<peer_view> view;
    };
    struct hand_on {
        wire_message message;
    };
    /// The peer dials again; its introduction is for the next link.
    struct hand_back {
        register_rank_info introduction;
    };
    struct ignore {
        ignored why;
    };
    struct tell_rank_of_loss {
        caf::error reason;
    };
    struct tell_sessions_of_loss {
        caf::error reason;
    };
    /// Proof: nothing that the peer started can move any more.
    struct tell_of_exit {};
    /// Closes the same-host link, and is over.
    struct end {};
    /// As it was told to. The endpoint is closed already.
    struct exit {
        caf::error reason;
    };

    using effect =
        std::variant<make_endpoint, drop_endpoint, leave_endpoint, dial_host_link, expect_host_link,
                     ask_devices, show_mappings, show_regions, transmit, expect, enqueue, come_up,
                     speak_early, renew_view, hand_on, hand_back, ignore, tell_rank_of_loss,
                     tell_sessions_of_loss, tell_of_exit, end, exit>;
    using effects = recycled_vector<effect>;

    /// Endpoints that a lost link makes to tell a waiting dialler.
    static constexpr int refusals_max = 3;

    explicit handshake(dependencies with);

    effects on(event&&, time_point now);

    /// When to tell it `looked`.
    std::optional<time_point> wakes_at() const;
    /// The next message in order may be heard now.
    bool hears() const;
    bool is_up() const { return std::holds_alternative<up>(phase_); }
    /// Requests have gone out, and the peer has not answered yet.
    bool speaks_early() const {
        const auto* now = std::get_if<making>(&phase_);
        return now && now->speaks;
    }
    bool is_over() const {
        return std::holds_alternative<lost>(phase_) || std::holds_alternative<ended>(phase_);
    }
    dial_id dial() const { return with_.dial; }
    /// Version of what is sent: of a peer without a common one the oldest, so that it can read why.
    std::uint16_t protocol() const { return terms_ ? terms_->protocol : oldest_protocol_version; }

    /// Of a link whose actor dies before it is over: what it leaves open, and whether the peer may
    /// believe in the link.
    struct remains {
        endpoint_id endpoint;
        bool peer_may_be_up = false;
    };
    std::optional<remains> left_behind() const;

private:
    // The endpoint.
    struct opening {
        std::uint64_t version;
        /// Why it was told to exit meanwhile; it obeys when the fabric has answered, otherwise the
        /// endpoint would stay open.
        caf::error exit;
    };
    struct open {
        endpoint_id id;
        bool by_rma;
    };

    // The same-host link.
    struct undecided {};
    struct absent {
        std::string why;
    };
    using present = host_link_made;
    using same_host = std::variant<undecided, absent, present>;

    /// This rank's own dial: accepted_ahead: the answer has overtaken the peer's introduction, and
    /// what comes next may need the regions that are in it.
    enum class own_dial : std::uint8_t { none, to_make, made, accepted_ahead, accepted };

    // The peer's dial.
    struct undialled {};
    struct to_answer {
        register_rank_info introduction;
        caf::error closed;
    };
    struct answered {
        register_rank_info introduction;
    };
    using peer_dial = std::variant<undialled, to_answer, answered>;

    struct idle {};
    struct making {
        time_point deadline;
        own_dial own;
        peer_dial theirs;
        std::variant<opening, open> endpoint;
        same_host host;
        peer_memory memory;
        /// Requests go out already: this side can shut the peer out by itself if it never answers.
        bool speaks = false;
    };
    struct up {
        open endpoint;
        /// Until the dialler confirms that it has been answered.
        std::optional<register_rank_info> unconfirmed;
        std::variant<absent, present> host;
        peer_memory memory;
        link_pulse pulse;
        std::uint64_t questions;
    };
    /// What a lost link still waits for: the fabric's answer or its last frame; and, in a former
    /// link's place or its own, the end of its peer's process.
    struct gone_endpoint {};
    struct leaving {
        endpoint_id id;
        time_point until;
    };
    enum class waits_for : std::uint8_t { nothing, host_link, process_end, nothing_more };
    /// To a dialler that would wait until its dial_deadline: it hears of its own endpoint only.
    struct owed_refusal {
        register_rank_info introduction;
        caf::error why;
        int endpoints_left = refusals_max;
    };
    struct lost {
        std::variant<gone_endpoint, opening, leaving> endpoint;
        waits_for process;
        std::optional<owed_refusal> owes = {};
    };
    struct ended {};

    void on(started&, time_point);
    void on(endpoint_made&, time_point);
    void on(endpoint_denied&, time_point);
    void on(endpoint_broken&, time_point);
    void on(endpoint_left&, time_point);
    void on(host_link_made&, time_point);
    void on(host_link_ended&, time_point);
    void on(process_ended&, time_point);
    void on(device_answered&, time_point);
    void on(regions_shown&, time_point);
    void on(looked&, time_point);
    void on(stirred&, time_point);
    void on(told_to_close&, time_point);
    void on(told_to_exit&, time_point);
    void on(arrived&, time_point);
    void on(heard&, time_point);
    void on(broken&, time_point);

    bool answers_own_dial(const wire_message&) const;
    void hear_introduction(register_rank_info&, caf::error& closed, time_point);
    void hear(wire_message&, time_point);
    void hear_offer(offer_regions&);

    void reopen(making&);
    void try_host_link(making&, const register_rank_info* introduction);
    void proceed(time_point);
    bool mapped_by_devices(peer_memory&, const present*);
    caf::error check(const to_answer&) const;
    void become_up(time_point);
    bool may_speak_early(const making&) const;
    std::shared_ptr<peer_view> view() const;
    std::shared_ptr<peer_view> view_of(const open&) const;

    enum class closing : std::uint8_t { forced, after_last_frame, nothing_is_open };
    static refused refusal(const caf::error& reason);
    void close(const caf::error& reason, closing, time_point now);
    void lose(const caf::error& reason, closing, time_point now);
    void give_up(const caf::error& reason, time_point now);
    void peer_has_left(const caf::error& reason, time_point now);
    void end_if_over();
    const present* host_link() const;
    const open* endpoint() const;
    waits_for still_waits_for() const;
    bool peer_may_be_up() const;
    bool refuse_dial(const caf::error& reason);
    void refuse(const register_rank_info&, const caf::error& reason);
    std::optional<register_rank_info> waiting_dialler();
    void open_for_refusal(lost&);
    std::string who() const { return describe(with_.peer); }

    template <class Message>
    void send(Message message) {
        say(transmit{std::move(message), with_.self.incarnation});
    }
    template <class Effect>
    void say(Effect x) {
        effects_.push_back(std::move(x));
    }

    dependencies with_;
    std::variant<idle, making, up, lost, ended> phase_;
    /// From both infos, or why there is no link.
    caf::expected<link_terms> terms_;
    /// The last dial of the peer that was heard: dials are numbered.
    std::optional<dial_id> peer_dialled_;
    /// How long the last frame may take to leave.
    std::chrono::milliseconds last_frame_within_;
    /// Of the event at hand.
    effects effects_;
};

} // namespace kvferry
