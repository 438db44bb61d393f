// SPDX-License-Identifier: Apache-2.0
// Checks and copies of puts by message.
#include "transport/fabric/inbound_writes.hpp"

#include "messages/values/error_format.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

namespace kvferry {

namespace {

constexpr std::size_t fences_max = 4096;

} // namespace

void inbound_writes::allow(region_id id, std::byte* base, std::uint64_t bytes, std::uint64_t secret,
                           std::span<std::byte> staging, bool by_attempt) {
    if (shut_)
        return;
    regions_[id] = {.base = base,
                    .bytes = bytes,
                    .secret = secret,
                    .on_device = !staging.empty(),
                    .by_attempt = by_attempt};
    if (!staging.empty())
        staging_.add_region(id, staging);
}

bool inbound_writes::forbid(region_id id) {
    ++shut_outs_;
    staging_.remove_region(id);
    const auto taken = regions_.extract(id);
    if (!taken)
        return false;
    const auto begin = reinterpret_cast<std::uint64_t>(taken.mapped().base);
    for (auto& [number, x] : reads_)
        if (x.begin < begin + taken.mapped().bytes && x.end > begin)
            x.taken_back.push_back(id);
    return true;
}

void inbound_writes::forbid(attempt over) {
    ++shut_outs_;
    attempts_.erase(over);
    for_each_put([this, over](put_key key, const put_state& put) {
        if (put.of == over)
            staging_.abandon(key);
    });
}

void inbound_writes::forbid_all() {
    ++shut_outs_;
    shut_ = true;
    for (const auto& [id, x] : std::exchange(regions_, {}))
        staging_.remove_region(id);
}

bool inbound_writes::is_busy(incarnation writer) const {
    return staging_.is_busy(writer)
           || any_read([writer](const read_apart& x) { return x.writer == writer; });
}

bool inbound_writes::is_busy(region_id id) const {
    return staging_.is_busy(id) || any_read([id](const read_apart& x) {
               return std::find(x.taken_back.begin(), x.taken_back.end(), id) != x.taken_back.end();
           });
}

template <class F>
bool inbound_writes::any_read(F&& is_it) const {
    return std::any_of(reads_.begin(), reads_.end(),
                       [&is_it](const auto& each) { return is_it(each.second); });
}

bool inbound_writes::is_busy(attempt over) const {
    auto busy =
        in_doubt_.contains(over) || any_read([over](const read_apart& x) { return x.of == over; });
    if (!busy && staging_.is_busy())
        for_each_put([this, over, &busy](put_key key, const put_state& put) {
            busy = busy || (put.of == over && staging_.is_busy(key));
        });
    return busy;
}

template <class F>
void inbound_writes::for_each_put(F&& visit) const {
    for (const auto& [writer, puts] : of_members_)
        for (const auto& [number, put] : puts)
            visit(put_key{writer.value, number}, put);
    for (const auto& [key, put] : of_others_)
        visit(key, put);
}

template <class Head>
bool inbound_writes::shows_a_key(const Head& head) const {
    auto found = regions_.find(region_id{head.region});
    return found != regions_.end() && found->second.secret == head.secret
           && !is_fenced(incarnation{head.sender});
}

template <class Head>
caf::expected<const inbound_writes::region*> inbound_writes::find_region(const Head& head) const {
    if (fenced_.contains(incarnation{head.sender}))
        return make_error(errc::transfer_failed, "incarnation {} counts as gone here: dial again",
                          head.sender);
    auto found = regions_.find(region_id{head.region});
    if (found == regions_.end() || found->second.secret != head.secret)
        return make_error(errc::transfer_failed,
                          "its access key names a region that is not registered "
                          "here (any more): ask for the peer's regions again");
    if (found->second.by_attempt && !attempts_.contains(attempt{head.attempt}))
        return make_error(errc::transfer_failed,
                          "attempt {} may not write here (any more): its session has ended",
                          head.attempt);
    return &found->second;
}

caf::expected<const inbound_writes::region*> inbound_writes::check(const write_head& head,
                                                                   std::size_t count) const {
    auto found = find_region(head);
    if (found)
        if (auto problem = check_bounds(**found, head.region, head.address, count))
            return problem;
    return found;
}

caf::error inbound_writes::check_bounds(const region& in, std::uint64_t number,
                                        std::uint64_t address, std::uint64_t count) {
    const auto base = reinterpret_cast<std::uint64_t>(in.base);
    if (address < base || address - base > in.bytes || count > in.bytes - (address - base))
        return make_error(errc::plan_invalid, "{} bytes at {} are outside region {}", count,
                          address, number);
    return {};
}

/// The region of each of its keys, once all of them and all stretches have been found right.
caf::expected<std::vector<const inbound_writes::region*>>
inbound_writes::check(const put_bundle& bundle) const {
    std::vector<const region*> result;
    for (const auto& key : bundle.keys) {
        auto found = find_region(write_head{.sender = bundle.head.sender,
                                            .put = bundle.head.put,
                                            .region = key.region,
                                            .secret = key.secret,
                                            .address = 0,
                                            .attempt = bundle.head.attempt});
        if (!found)
            return std::move(found.error());
        result.push_back(*found);
    }
    for (const auto& x : bundle.stretches)
        if (auto problem =
                check_bounds(*result[x.key], bundle.keys[x.key].region, x.address, x.bytes))
            return problem;
    return result;
}

// -- puts that are remembered --------------------------------------------------------------------
// Whoever shows a right key over a link has room of its own, which nobody else can use up. Anybody
// can send the rest: it is remembered as far as there is room, so that its sender gets an answer.

void inbound_writes::joined(incarnation writer) {
    if (!is_fenced(writer))
        of_members_.try_emplace(writer);
}

std::size_t inbound_writes::puts() const {
    auto result = of_others_.size();
    for (const auto& [writer, puts] : of_members_)
        result += puts.size();
    return result;
}

inbound_writes::put_state* inbound_writes::find(put_key key) {
    if (auto member = of_members_.find(incarnation{key.first}); member != of_members_.end())
        if (auto found = member->second.find(key.second); found != member->second.end())
            return &found->second;
    auto found = of_others_.find(key);
    return found == of_others_.end() ? nullptr : &found->second;
}

inbound_writes::put_state& inbound_writes::find_or_begin(put_key key, bool shows_a_key) {
    auto* known = find(key);
    auto member = of_members_.find(incarnation{key.first});
    if (!shows_a_key || member == of_members_.end())
        return known ? *known : keep_among_others(key, {});
    auto& own = member->second;
    if (auto found = own.find(key.second); found != own.end())
        return found->second;
    auto begun = known ? take(key) : put_state{};
    if (own.size() >= puts_max_)
        forget({key.first, own.begin()->first});
    return own[key.second] = std::move(begun);
}

inbound_writes::put_state& inbound_writes::keep_among_others(put_key key, put_state put) {
    if (of_others_.size() >= puts_max_)
        forget(others_by_age_.begin()->second);
    put.born = ++last_born_;
    others_by_age_.emplace(put.born, key);
    return of_others_[key] = std::move(put);
}

inbound_writes::put_state inbound_writes::take(put_key key) {
    if (auto other = of_others_.extract(key)) {
        others_by_age_.erase(other.mapped().born);
        return std::move(other.mapped());
    }
    return std::move(of_members_.at(incarnation{key.first}).extract(key.second).mapped());
}

/// A device may still scatter for it. Nobody could tell any more when that ends, so its attempt
/// stays busy for ever.
void inbound_writes::forget(put_key key) {
    staging_.abandon(key);
    const auto put = take(key);
    if (staging_.is_busy(key))
        in_doubt_.insert(put.of);
}

// -- what arrives --------------------------------------------------------------------------------

template <class Head>
inbound_writes::put_state& inbound_writes::written_by(const Head& head) {
    const auto has_key = shows_a_key(head);
    auto& put = find_or_begin({head.sender, head.put}, has_key);
    if (has_key)
        put.of = {head.attempt};
    return put;
}

void inbound_writes::place(const write_head& head, const void* bytes, std::size_t count,
                           const std::optional<message_sums>& sums) {
    auto to = check(head, count);
    auto& put = written_by(head);
    auto problem = to ? caf::error{} : std::move(to.error());
    if (!problem && sums) {
        message_adder adder;
        adder.add(head.address, bytes, count);
        const placed_stretch all{head.address, count};
        problem = damage(put, *sums, adder.value(), {&all, 1});
    }
    if (!problem && (*to)->on_device)
        problem = staging_.place({head.sender, head.put}, region_id{head.region}, head.address,
                                 bytes, count);
    else if (!problem)
        std::memcpy(reinterpret_cast<void*>(head.address), bytes, count);
    piece_over({head.sender, head.put}, put, std::move(problem));
}

void inbound_writes::place(const put_bundle& bundle, byte_view bytes) {
    auto& put = written_by(bundle.write(bundle.stretches.front()));
    piece_over({bundle.head.sender, bundle.head.put}, put, place_all(put, bundle, bytes));
}

/// Names what has come otherwise than it left; none: it is as its writer says.
caf::error inbound_writes::damage(put_state& put, const message_sums& said,
                                  const message_sums& came,
                                  std::span<const placed_stretch> stretches) {
    if (said == came)
        return {};
    const auto where = find_damage(said, came, stretches);
    if (!put.damaged)
        put.damaged = where;
    return make_error(errc::digest_mismatch, "bytes that came are not those that left");
}

caf::error inbound_writes::place_all(put_state& put, const put_bundle& bundle, byte_view bytes) {
    const auto to = check(bundle);
    if (!to)
        return to.error();
    if (bundle.sums) {
        message_adder adder;
        std::vector<placed_stretch> stretches;
        for (auto left = bytes; const auto& x : bundle.stretches) {
            adder.add(x.address, left.data(), x.bytes, left.data() + x.bytes);
            stretches.push_back({x.address, x.bytes});
            left = left.subspan(x.bytes);
        }
        if (auto problem = damage(put, *bundle.sums, adder.value(), stretches))
            return problem;
    }
    for (const auto& x : bundle.stretches) {
        caf::error problem;
        if ((*to)[x.key]->on_device)
            problem = staging_.place({bundle.head.sender, bundle.head.put},
                                     region_id{bundle.keys[x.key].region}, x.address, bytes.data(),
                                     x.bytes);
        else
            std::memcpy(reinterpret_cast<void*>(x.address), bytes.data(), x.bytes);
        if (problem)
            return problem;
        bytes = bytes.subspan(x.bytes);
    }
    return {};
}

// -- bytes that a wire reads into place ----------------------------------------------------------

landing inbound_writes::land(const write_head& head, std::uint64_t bytes,
                             const std::optional<message_sums>& sums) const {
    landing result{.put = head, .sums = sums, .decided = shut_outs_};
    auto to = check(head, bytes);
    if (!to) {
        result.how = landing::kind::refused;
        result.problem = std::move(to.error());
    } else if (!(*to)->on_device) {
        result.how = landing::kind::in_place;
        result.places.emplace_back(reinterpret_cast<std::byte*>(head.address), bytes);
    }
    return result;
}

landing inbound_writes::land(const put_bundle& bundle) const {
    landing result{
        .put = bundle.write(bundle.stretches.front()), .sums = bundle.sums, .decided = shut_outs_};
    const auto to = check(bundle);
    if (!to) {
        result.how = landing::kind::refused;
        result.problem = to.error();
        return result;
    }
    if (std::any_of(to->begin(), to->end(), [](const region* x) { return x->on_device; }))
        return result;
    result.how = landing::kind::in_place;
    result.places.reserve(bundle.stretches.size());
    for (const auto& x : bundle.stretches)
        result.places.emplace_back(reinterpret_cast<std::byte*>(x.address), x.bytes);
    return result;
}

std::uint64_t inbound_writes::read_begins(const landing& x) {
    read_apart fresh{.writer = {x.put.sender}, .of = {x.put.attempt}, .begin = UINT64_MAX};
    for (const auto& place : x.places) {
        const auto address = reinterpret_cast<std::uint64_t>(place.data());
        fresh.begin = std::min(fresh.begin, address);
        fresh.end = std::max(fresh.end, address + place.size());
    }
    reads_.emplace(++last_read_, std::move(fresh));
    return last_read_;
}

void inbound_writes::landed(landing&& x) {
    auto& put = written_by(x.put);
    if (x.sums && x.how == landing::kind::in_place) {
        message_adder adder;
        std::vector<placed_stretch> stretches;
        stretches.reserve(x.places.size());
        for (auto place = x.places.begin(); place != x.places.end();) {
            const auto address = reinterpret_cast<std::uint64_t>(place->data());
            const auto bytes = place->size();
            stretches.push_back({address, bytes});
            const auto* at = place->data();
            adder.add(address, at, bytes, ++place == x.places.end() ? nullptr : place->data());
        }
        x.problem = damage(put, *x.sums, adder.value(), stretches);
    }
    piece_over({x.put.sender, x.put.put}, put, std::move(x.problem));
}

void inbound_writes::piece_over(put_key key, put_state& put, caf::error problem) {
    if (problem) {
        ++refused_pieces_;
        if (!put.refused)
            put.refused = std::move(problem);
    }
    ++put.pieces;
    finish_if_complete(key);
}

void inbound_writes::end(const write_end_head& head, byte_buffer return_address,
                         byte_buffer report) {
    auto& put = find_or_begin({head.sender, head.put}, shows_a_key(head));
    put.expected = head.pieces;
    put.return_address = std::move(return_address);
    put.report = std::move(report);
    finish_if_complete({head.sender, head.put});
}

// -- memory on a device -------------------------------------------------------------------------

void inbound_writes::ask(const credit_ask_head& head, byte_buffer return_address) {
    auto found = find_region(head);
    if (!found) {
        refused_asks_.push_back({.writer = {head.sender},
                                 .put = head.put,
                                 .return_address = std::move(return_address),
                                 .refused = std::move(found.error())});
        return;
    }
    auto& put = find_or_begin({head.sender, head.put}, true);
    put.return_address = std::move(return_address);
    put.of = {head.attempt};
    const auto allowed = attempts_.find(attempt{head.attempt});
    const auto urgency = allowed == attempts_.end() ? priority::normal : allowed->second;
    std::optional<std::uint32_t> source;
    if (head.source_region <= std::numeric_limits<std::uint32_t>::max())
        source = static_cast<std::uint32_t>(head.source_region);
    staging_.ask({head.sender, head.put}, region_id{head.region}, head.bytes, source,
                 {.urgency = urgency, .peer = head.sender, .session = head.attempt});
}

void inbound_writes::refer(const refer_head& head, byte_view stretches) {
    auto& put = written_by(head);
    piece_over({head.sender, head.put}, put, refer_all(head, stretches));
}

caf::error inbound_writes::refer_all(const refer_head& head, byte_view stretches) {
    referred_stretch next;
    if (stretches.size() % sizeof next != 0)
        return make_error(errc::malformed_message, "a list of stretches ends in the middle of one");
    for (std::size_t at = 0; at < stretches.size(); at += sizeof next) {
        std::memcpy(static_cast<void*>(&next), stretches.data() + at, sizeof next);
        auto to = check({.sender = head.sender,
                         .put = head.put,
                         .region = head.region,
                         .secret = head.secret,
                         .address = next.address,
                         .attempt = head.attempt},
                        next.bytes);
        auto problem = to ? staging_.refer({head.sender, head.put}, region_id{head.region},
                                           next.address, next.offset, next.bytes)
                          : std::move(to.error());
        if (problem)
            return problem;
    }
    return {};
}

std::vector<granted_credit> inbound_writes::take_granted() {
    auto result = std::exchange(refused_asks_, {});
    for (auto& x : staging_.take_grants())
        if (const auto* put = find(x.put))
            result.push_back({.writer = {x.put.first},
                              .put = x.put.second,
                              .return_address = put->return_address,
                              .bytes = x.bytes,
                              .refused = std::move(x.refused),
                              .by_reference = x.by_reference});
    return result;
}

void inbound_writes::scattered(std::uint64_t number, const transfer_done& message) {
    const auto ended = staging_.scattered(number, message.result == agent_result::in_doubt);
    auto* found = find(ended.put);
    if (!found)
        return;
    auto& put = *found;
    put.in_doubt = put.in_doubt || ended.in_doubt;
    if (ended.in_doubt)
        in_doubt_.insert(put.of);
    if (message.result != agent_result::success && !put.refused)
        put.refused = message.error
                          ? message.error
                          : make_error(errc::transfer_failed, "the device gave no reason");
    finish_if_complete(ended.put);
}

void inbound_writes::lost(incarnation writer) {
    if (auto left = of_members_.extract(writer))
        for (auto& [number, put] : left.mapped())
            keep_among_others({writer.value, number}, std::move(put));
    for (auto it = of_others_.lower_bound({writer.value, 0});
         it != of_others_.end() && it->first.first == writer.value; ++it)
        staging_.abandon(it->first);
}

// -- ends ---------------------------------------------------------------------------------------

/// The writer has posted all its pieces, so credit that it did not use is taken back.
void inbound_writes::finish_if_complete(put_key key) {
    auto& put = *find(key);
    if (put.expected != put.pieces)
        return;
    staging_.complete(key);
    staging_.abandon(key);
    if (staging_.is_busy(key))
        return;
    auto over = take(key);
    finished_.push_back({.writer = {key.first},
                         .put = key.second,
                         .return_address = std::move(over.return_address),
                         .refused = std::move(over.refused),
                         .in_doubt = over.in_doubt,
                         .report = std::move(over.report),
                         .damaged = over.damaged});
}

std::vector<finished_writes> inbound_writes::take_finished() {
    return std::exchange(finished_, {});
}

void inbound_writes::fence(incarnation writer) {
    ++shut_outs_;
    lost(writer);
    if (!fenced_.insert(writer).second)
        return;
    fenced_in_order_.push_back(writer);
    if (fenced_in_order_.size() > fences_max) {
        fenced_.erase(fenced_in_order_.front());
        fenced_in_order_.erase(fenced_in_order_.begin());
    }
}

} // namespace kvferry
