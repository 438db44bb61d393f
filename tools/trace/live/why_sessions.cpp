// SPDX-License-Identifier: Apache-2.0
// Turns each wait into a sentence that ends with who must act.
#include "tools/trace/live/why_sessions.hpp"

#include "tools/trace/pictures/pictures.hpp"

#include <algorithm>
#include <set>
#include <string>

namespace kvferry::tracing {

namespace {

using trace::instant;
using trace::session_record;

class teller {
public:
    teller(const flow& x, std::uint64_t rid, const std::vector<silent_process>& silent)
        : flow_(x), rid_(rid), silent_(silent) {
        for (const auto& lane : x.lanes)
            ranks_.insert(lane.rank);
        for (std::size_t process = 0; process < x.recordings.size(); ++process) {
            for (const auto& y : x.recordings[process].ranks)
                ranks_.insert(y.rank);
            for (const auto& y : x.recordings[process].sessions)
                if (y.rid == rid)
                    said_.emplace_back(process, &y);
        }
    }

    std::vector<ordered_wait> run() {
        for (const auto& [process, x] : said_)
            for (const auto& y : x->waits)
                look_at(process, *x, y);
        return std::move(found_);
    }

private:
    void look_at(std::size_t process, const session_record& x, const session_record::wait& y) {
        const auto there = y.rank.empty() ? x.rank : y.rank;
        wait found;
        found.kind = "session";
        found.who = there + " " + y.who;
        found.what = y.what;
        found.text = x.state == "NONE"      ? x.rank + " has no session of it"
                     : x.state == "UNKNOWN" ? x.rank
                                            : x.rank + " " + actor_of(x) + ", " + x.state + ",";
        found.text += " waits for " + y.what;
        auto place = order::session;
        if (y.who == "rank_info_server")
            look_for_ranks(y.rank, found);
        if (x.state == "UNKNOWN") {
            place = order::silence;
            found.kind = "silence";
        } else if (y.who == "host" || y.who == "rank_info_server" || y.who == "copy_io"
                   || y.who == "cuda_io" || y.who == "fabric_io") {
            place = order::outside;
        } else if (const auto* nobody = silent_at(there)) {
            place = order::silence;
            found.kind = "silence";
            found.who = there;
            found.text += "; ";
            if (nobody->process_id != 0) {
                found.who += " process " + std::to_string(nobody->process_id);
                found.text += "process " + std::to_string(nobody->process_id) + " of ";
            }
            found.text += nobody->name + " " + nobody->state;
        } else if (y.who.ends_with("_session") && !said_by(y)) {
            place = order::outside;
            look_for_session(x, y, found);
        }
        set_times(found, process, x);
        found.text += ": " + found.who + " must act";
        found_.emplace_back(place, std::move(found));
    }

    /// Explains why the rank that should answer has no session of the request.
    void look_for_session(const session_record& x, const session_record::wait& y,
                          wait& into) const {
        if (y.rank.empty()) {
            into.who = "generation host";
            into.text += "; no rank that answers has a session of it";
        } else if (!ranks_.contains(y.rank)) {
            into.text += "; " + y.rank + " does not listen here";
        } else if (x.state == "ERROR" || x.state == "CANCELLED") {
            into.who = y.rank + " process";
            into.text +=
                "; " + y.rank + " has no session of it: the end of that process would be the proof";
        } else {
            into.who = y.rank + " host";
            into.text += "; " + y.rank + " has no session of it";
        }
    }

    /// Names the ranks that the instance with this endpoint still lacks, if that can be told.
    void look_for_ranks(const std::string& endpoint, wait& into) const {
        std::set<std::string> here;
        std::string instance;
        std::uint32_t world_size = 0;
        for (const auto& from : flow_.recordings)
            for (const auto& x : from.ranks) {
                if (x.info_endpoint != endpoint)
                    continue;
                here.insert(x.rank);
                instance = x.rank.substr(0, x.rank.rfind('/'));
                world_size = x.world_size;
            }
        if (here.empty()) {
            into.text += "; no rank that answers has its endpoint " + endpoint;
            return;
        }
        for (std::uint32_t rank = 0; rank < world_size; ++rank) {
            const auto name = instance + "/" + std::to_string(rank);
            if (here.contains(name))
                continue;
            into.who = name;
            into.text += "; " + std::to_string(here.size()) + " of the "
                         + std::to_string(world_size) + " ranks of " + instance + " are there, "
                         + name + " is not";
            return;
        }
    }

    void set_times(wait& x, std::size_t process, const session_record& from) {
        x.now_ns = on_flow(process, from.now_ns);
        const step* first = nullptr;
        const step* heard = nullptr;
        for (const auto& y : flow_.steps) {
            if (y.process != process)
                continue;
            first = first ? first : &y;
            if (y.rid == rid_ && y.what == instant::dequeued && !says_nothing_new(y.message)
                && (y.actor.ends_with("_session") || y.actor == "sender")
                && flow_.lanes[y.lane].rank == from.rank)
                heard = &y;
        }
        const auto opened = from.opened_ns == 0 ? x.now_ns : on_flow(process, from.opened_ns);
        x.longer = !heard && first;
        x.since_ns = heard ? heard->time_ns : first ? first->time_ns : opened;
        if (first)
            x.text += std::string{", for "} + (x.longer ? "more than " : "")
                      + duration_text(x.now_ns - x.since_ns);
        else if (from.opened_ns != 0)
            x.text += ", open for " + duration_text(x.now_ns - opened);
        if (from.deadline_ns == 0)
            return;
        x.deadline_ns = on_flow(process, from.deadline_ns);
        x.text += ", its deadline is in " + duration_text(*x.deadline_ns - x.now_ns);
    }

    static std::string actor_of(const session_record& x) {
        return x.side == "context" ? "tx_session" : "rx_session";
    }

    /// True when the session that is waited for has answered.
    bool said_by(const session_record::wait& x) const {
        return std::any_of(said_.begin(), said_.end(), [&](const auto& entry) {
            const auto& y = *entry.second;
            return actor_of(y) == x.who && (x.rank.empty() || y.rank == x.rank);
        });
    }

    const silent_process* silent_at(const std::string& rank) const {
        const auto slash = rank.rfind('/');
        auto alone = rank;
        std::replace(alone.begin(), alone.end(), '/', '-');
        const auto found = std::find_if(silent_.begin(), silent_.end(), [&](const auto& x) {
            return x.process_id == 0 ? x.name == rank
                                     : x.name == alone || x.name == rank.substr(0, slash);
        });
        return found == silent_.end() ? nullptr : &*found;
    }

    std::int64_t on_flow(std::size_t process, std::uint64_t monotonic_ns) const {
        return static_cast<std::int64_t>(monotonic_ns) + flow_.offsets_ns[process] - flow_.start_ns;
    }

    const flow& flow_;
    std::uint64_t rid_;
    const std::vector<silent_process>& silent_;
    /// All ranks that take part, and the empty name.
    std::set<std::string> ranks_;
    std::vector<std::pair<std::size_t, const session_record*>> said_;
    std::vector<ordered_wait> found_;
};

} // namespace

std::vector<ordered_wait> waits_said(const flow& x, std::uint64_t rid,
                                     const std::vector<silent_process>& silent) {
    return teller{x, rid, silent}.run();
}

} // namespace kvferry::tracing
