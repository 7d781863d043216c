// The templates that the file of cleanforkd names: started with it, and changed with it.
#pragma once

#include <cleanfork/v1/cleanfork.pb.h>

#include <map>
#include <memory>
#include <string>

#include "forkserver/daemon/children/orphans.hpp"
#include "forkserver/daemon/core.hpp"
#include "forkserver/daemon/templates/template_table.hpp"

namespace cleanfork::daemon {

class file_templates {
public:
    using definitions = std::map<std::string, v1::AddTemplateRequest>;

    file_templates(core& c, template_table& templates, orphans& strays)
        : core_(c), templates_(templates), orphans_(strays) {}

    // Those that are new, or not there any more, are started; those that are defined otherwise
    // than before get their next generation; those that are gone from the file are removed. Others
    // are left alone, and children are in any case.
    void apply(const definitions& wanted);

private:
    result<void> start(const v1::AddTemplateRequest& definition);

    core& core_;
    template_table& templates_;
    orphans& orphans_;
    std::map<std::string, std::string> started_;       // as they were defined
    std::shared_ptr<const spawn::session_base> base_;  // the forkserver's own environment
};

}  // namespace cleanfork::daemon
