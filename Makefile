.DEFAULT_GOAL := help

# The first Python on the PATH that is new enough, unless PYTHON= names one.
new_enough := import sys; sys.exit(sys.version_info < (3, 11))
ifndef PYTHON
PYTHON := $(shell for p in python3 python3.13 python3.14 python3.12 python3.11; do \
	$$p -c '$(new_enough)' 2>/dev/null && echo $$p && break; done)
endif
python_version := $(if $(PYTHON),$(lastword $(shell $(PYTHON) -V 2>&1)))

# Make an environment anew when its lock or the Python changes: its stamp is named LOCK-CHECKSUM-VERSION.
stamp = $(1)/$(2)-$(firstword $(shell cksum < requirements/$(2).txt))-$(python_version)
run_env := $(call stamp,.venv-run,run)
test_env := $(call stamp,.venv,test)
sam_env := $(call stamp,.venv-sam,sam)
cli_env := $(call stamp,.venv-cli,cli)
audit_env := $(call stamp,.venv-audit,audit)
bench_env := $(call stamp,.venv-bench,bench)
nag_env := $(call stamp,.venv-nag,nag)
durable_env := $(call stamp,.venv-durable,durable)
emulator_env := $(call stamp,.venv-emulator,emulator)
sdks_env := $(call stamp,.venv-sdks,sdks)
clients_env := $(call stamp,.venv-clients,clients)
gateways_env := $(call stamp,.venv-gateways,gateways)

# What `sam build` installs into the layer.
layer_lock := layers/shared/python/requirements.txt

.PHONY: help
help: ## show this text
	@echo 'make TARGET [PYTHON=python3.13] [ARGS="..."]'
	@awk -F ': .*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: $(run_env) ## start the whole service on http://127.0.0.1:8001 (PORT, DATA_DIR, DATABASE_URL, KAFKA_BOOTSTRAP_SERVERS)
	@PYTHONPATH='$(CURDIR)/layers/shared/python' exec .venv-run/bin/python -m local $(ARGS)

.PHONY: demo
demo: $(run_env) ## send a batch of payments and refunds to the running service
	@PYTHONPATH='$(CURDIR)/layers/shared/python' exec .venv-run/bin/python -m local.demo $(ARGS)

.PHONY: cli
cli: $(cli_env) ## look payments up, take and refund them: make cli ARGS="show order-1042" (see also `pipx install ./cli`)
	@PYTHONPATH='$(CURDIR)/cli' exec .venv-cli/bin/python -m payments_cli $(ARGS)

# The collection's runner is JavaScript. Its stamp is the checksum of its lock.
bruno_env := .venv-bruno/bruno-$(firstword $(shell cksum < requirements/bruno/package-lock.json))

.PHONY: bruno
bruno: $(bruno_env) ## send the requests of docs/bruno to the running service (needs npm; ARGS="--env-var url=http://127.0.0.1:8002")
	@cd docs/bruno && exec ../../.venv-bruno/node_modules/.bin/bru run -r --env local $(ARGS)

.PHONY: .venv-bruno
.venv-bruno: $(bruno_env)

$(bruno_env):
	@command -v npm >/dev/null || { echo >&2 'Bruno needs Node and npm: put them on the PATH (apt-get install nodejs npm).'; exit 1; }
	@echo 'Setting up $(@D) from requirements/bruno/package-lock.json, once.'
	@rm -rf $(@D)
	@cp -R requirements/bruno $(@D)
	@cd $(@D) && npm ci --loglevel=error
	@touch $@

.PHONY: test
test: $(test_env) $(sam_env) ## run the tests, on real servers (ARGS go to pytest)
	.venv/bin/python -m pytest $(ARGS)

.PHONY: javascript
javascript: tests/webhooks/javascript/node_modules tests/gateway/javascript/node_modules ## fetch the JavaScript libraries with which tests verify webhooks and sign Stripe's (needs npm)
tests/%/javascript/node_modules: tests/%/javascript/package-lock.json
	npm ci --silent --ignore-scripts --prefix $(@D)
	@touch $@

.PHONY: test-fast
test-fast: $(test_env) ## run the tests that need no server and no other process (ARGS go to pytest)
	.venv/bin/python -m pytest -m 'not server' $(ARGS)

# LocalStack runs on the Python of the functions, because its own code needs 3.12, which its metadata does not say.
.PHONY: emulate
emulate: $(test_env) ## deploy the template on LocalStack and moto, with every parameter set and with seeded faults (ARGS go to pytest)
	@test -x '$(python313)' || { echo >&2 'The emulator needs Python 3.13: put a python3.13 on the PATH.'; exit 1; }
	@$(MAKE) --no-print-directory .venv-emulator PYTHON='$(python313)'
	.venv/bin/python -m pytest tests/emulator $(ARGS)

.PHONY: .venv-emulator
.venv-emulator: $(emulator_env)

.PHONY: check
check: $(test_env) $(sam_env) ## check format, lint, types, imports and the template
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	PYTHONPATH=layers/shared/python:cli .venv/bin/lint-imports --no-logo
	SAM_CLI_TELEMETRY=0 .venv-sam/bin/sam validate --lint --region us-east-1

# Stripe World needs Python 3.14, which tests/gateway/servers.py looks for here or in Docker. Both are Linux, so its packages are too.
# Older pips refuse a package that is for a newer Python than theirs, although they were told which one it is for.
stripe_world_env := $(call stamp,.venv-stripe-world,stripe-world)
$(stripe_world_env): $(gateways_env)
	@echo 'Setting up $(@D) from requirements/stripe-world.txt, once.'
	@rm -rf $(@D)
	@.venv-gateways/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --ignore-requires-python \
		--target $(@D)/site --only-binary=:all: --implementation cp --python-version 3.14 \
		$(foreach tag,manylinux_2_28 manylinux_2_17 manylinux2014,--platform $(tag)_$(linux)) -r requirements/stripe-world.txt
	@touch $@
linux = $(if $(filter arm64 aarch64,$(shell uname -m)),aarch64,x86_64)

# Go checks what it fetches against its checksum database. Without Go, or without its proxy, the two are left out.
go_tools := .venv-go/stripe-mock-v0.203.0-toxiproxy-v2.5.0
$(go_tools):
	@rm -rf $(@D)
	@mkdir $(@D)
	@GOBIN='$(CURDIR)/$(@D)' go install github.com/stripe/stripe-mock@v0.203.0 && \
		GOBIN='$(CURDIR)/$(@D)' go install github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0 && touch $@ || true

.PHONY: gateways
gateways: $(test_env) $(gateways_env) $(stripe_world_env) $(go_tools) ## the tests of the gateways, in front of Stripe World, localstripe, stripe-mock and toxiproxy
	.venv/bin/python -m pytest tests/gateway tests/chaos/test_stripe_world.py $(ARGS)
	@.venv/bin/python -m tests.gateway.servers

.PHONY: contract
contract: $(test_env) ## the port's suite in front of Stripe's test mode (STRIPE_API_KEY=sk_test_...)
	@case "$$STRIPE_API_KEY" in sk_test_*|rk_test_*) ;; *) echo >&2 'STRIPE_API_KEY has to be a key of the test mode: sk_test_...'; exit 1;; esac
	.venv/bin/python -m pytest tests/gateway/test_port.py -k 'test_the_port[Stripe-' $(ARGS)

# A machine that reaches no advisories does not pass as audited: pip-audit (--strict), npm and our questions to OSV fail there.
npm_locks := contract/clients/tools contract/sdks/npm requirements/bruno tests/gateway/javascript tests/webhooks/javascript
audit_locks = for lock in $(layer_lock) requirements/*.txt; do \
	.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes --requirement $$lock || exit 1; done; \
	for folder in $(npm_locks); do npm audit --package-lock-only --prefix $$folder || exit 1; done; \
	.venv-audit/bin/python -m deploy.advisories
.PHONY: audit
audit: $(audit_env) $(nag_env) ## look for known vulnerabilities (npm, mvn; not with OFFLINE=1), and for weaknesses in the code and the template
	.venv-audit/bin/bandit --quiet --configfile pyproject.toml --recursive layers/shared/python/payments functions migrations
	.venv-audit/bin/checkov --file template.yaml --framework cloudformation --compact --quiet --skip-download
	JSII_NODE=.venv-nag/bin/node .venv-nag/bin/python -m deploy.nag template.yaml
	$(if $(OFFLINE),@echo >&2 'OFFLINE: nothing says whether the locks have known vulnerabilities.',$(audit_locks))

.PHONY: lint
lint: $(test_env) ## format the code and fix what ruff can fix
	.venv/bin/ruff format
	.venv/bin/ruff check --fix

.PHONY: openapi
openapi: $(test_env) ## write docs/openapi.json, docs/asyncapi.yaml, docs/schemas/ and docs/errors.md
	PYTHONPATH=layers/shared/python .venv/bin/python -m contract.openapi
	PYTHONPATH=layers/shared/python .venv/bin/python -m contract.asyncapi
	PYTHONPATH=layers/shared/python .venv/bin/python -m contract.published
	PYTHONPATH=layers/shared/python .venv/bin/python -m contract.errors

.PHONY: sdks
sdks: $(test_env) $(sdks_env) ## have the CloudEvents SDKs of PyPI, npm and Maven read what the service sends (needs node, npm, a JDK and mvn)
	PYTHONPATH=layers/shared/python .venv/bin/python -m contract.sdks

.PHONY: clients
clients: $(clients_env) $(run_env) ## generate clients in four languages from the documents and use them (needs java, mvn, go, node, npm; ARGS=java for one)
	@.venv-clients/bin/python -m contract.clients $(ARGS)

.PHONY: plans
plans: $(test_env) ## write migrations/always/plans.sql, after a change of a statement that has a function
	PYTHONPATH=layers/shared/python .venv/bin/python -m contract.plans

# The other locks follow test.txt, so that the versions that run are the versions that were tested. --universal: a lock is for every
# operating system, processor and Python from this version on. The layer's is for Lambda's Python.
compile = uv pip compile --quiet --universal --python-version $(1) --generate-hashes --annotation-style line \
	--custom-compile-command 'make lock' $(ARGS)
.PHONY: lock
lock: ## renew requirements/*.txt, the layer's lock and that of Bruno; needs uv and npm (ARGS=--upgrade takes newer versions)
	$(call compile,3.11) pyproject.toml --group dev --output-file requirements/test.txt
	$(call compile,3.13) pyproject.toml --constraint requirements/test.txt --output-file $(layer_lock)
	$(call compile,3.11) pyproject.toml --group local --constraint requirements/test.txt --output-file requirements/run.txt
	$(call compile,3.11) pyproject.toml --group bench --constraint requirements/test.txt --output-file requirements/bench.txt
	$(call compile,3.11) cli/pyproject.toml --constraint requirements/test.txt --output-file requirements/cli.txt
	$(call compile,3.11) --group sam --output-file requirements/sam.txt
	$(call compile,3.11) --group durable --constraint requirements/test.txt --output-file requirements/durable.txt
	$(call compile,3.11) --group audit --output-file requirements/audit.txt
	$(call compile,3.11) --group nag --output-file requirements/nag.txt
	$(call compile,3.11) --group sdks --constraint requirements/test.txt --output-file requirements/sdks.txt
	$(call compile,3.11) --group clients --output-file requirements/clients.txt
	$(call compile,3.11) --group gateways --output-file requirements/gateways.txt
	$(call compile,3.14) --group stripe-world --output-file requirements/stripe-world.txt
	$(call compile,3.13) --group emulator --output-file requirements/emulator.txt
	cd requirements/bruno && npm install --package-lock-only

.PHONY: up
up: $(run_env) ## start PostgreSQL, PgBouncer and Kafka in containers and apply the migrations (Docker; then `make sam-local`)
	docker compose up --detach --wait
	@PYTHONPATH='$(CURDIR)/layers/shared/python' DATABASE_OWNER_URL=postgresql://postgres:local@127.0.0.1:$${POSTGRES_PORT:-5432}/payments \
		.venv-run/bin/python -m migrations.apply migrations
	@docker compose exec --no-TTY postgres psql --quiet --username=postgres --dbname=payments \
		--command "ALTER ROLE payments_service PASSWORD 'local'" --command "ALTER ROLE payments_scheduled PASSWORD 'local'"

.PHONY: down
down: ## end those containers (ARGS=--volumes deletes the database and the topic too)
	docker compose down $(ARGS)

# `sam build` needs the functions' own Python on the PATH, and compiling their bytecode needs it too. A pyenv shim may exist and not work.
python313 = $(shell for p in python3.13 "$$(uv python find 3.13 2>/dev/null)" $(HOME)/.pyenv/versions/3.13.*/bin/python3.13; do \
	"$$p" -c 'import sys; print(sys.executable)' 2>/dev/null && break; done)
sam = SAM_CLI_TELEMETRY=0 .venv-sam/bin/sam

# Python does not check this bytecode against its source. Without it, every cold start would compile the layer, which is read-only on AWS.
define sam_build
	@test -x '$(python313)' || { echo >&2 'sam build needs Python 3.13, the version that the functions run on: put a python3.13 on the PATH.'; exit 1; }
	PATH="$(patsubst %/,%,$(dir $(python313))):$$PATH" $(sam) build --parameter-overrides Architecture=$(1) --build-dir $(2) --cache-dir $(2)-cache
	$(python313) -m compileall -q --invalidation-mode unchecked-hash $(2)
endef

# The stamp makes each build a new layer, so that deploying it publishes a version of every function. SAM does not notice when only the
# value of a parameter changed.
.PHONY: build
build: $(sam_env) ## build functions and layer for AWS into .aws-sam/build, for `sam deploy` (ARCHITECTURE=arm64)
	$(call sam_build,$(or $(ARCHITECTURE),arm64),.aws-sam/build)
	@echo "$$(date -u +%Y-%m-%dT%H:%M:%SZ) $$(git describe --always --dirty 2>/dev/null)" > .aws-sam/build/SharedLayer/BUILD

# The shell expands the two variables, and not make: a URL contains & and ?.
given = "$$ARGS" "$$PARAMETERS" $(if $(ARCHITECTURE),Architecture=$(ARCHITECTURE))
.PHONY: deploy
deploy: $(sam_env) ## build and deploy for one architecture (PARAMETERS="JwtIssuer=... JwtAudience=...", ARCHITECTURE=arm64; ARGS go to sam deploy)
	@SAM_CLI_TELEMETRY=0 .venv-sam/bin/python -m deploy $(given)

.PHONY: preflight
preflight: $(sam_env) ## say in seconds what would fail a deployment after half an hour (PARAMETERS and ARGS as of deploy)
	@.venv-sam/bin/python -m deploy.preflight $(given)

# The local build has a folder of its own, because a laptop's architecture often differs from that of the deployed functions.
machine := $(if $(filter arm64 aarch64,$(shell uname -m)),arm64,x86_64)
# By default sam looks for samconfig.toml beside the template.
sam_local = $(sam) local $(1) --config-file '$(CURDIR)/samconfig.toml' --template .aws-sam/local/template.yaml --parameter-overrides Architecture=$(machine)

.PHONY: local-build
local-build: $(sam_env)
	$(call sam_build,$(machine),.aws-sam/local)

.PHONY: sam-local
sam-local: local-build ## serve the API on http://127.0.0.1:8001 from AWS's containers, next to `make up` (ARGS go to sam local start-api)
	$(call sam_local,start-api) $(ARGS)

.PHONY: sam-lambda
sam-lambda: local-build ## serve Lambda's Invoke API on http://127.0.0.1:3001 from AWS's containers (ARGS go to sam local start-lambda)
	$(call sam_local,start-lambda) $(ARGS)

# The table in events/README.md names the function of each event.
FUNCTION = $(shell sed -n 's/^| `$(basename $(notdir $(EVENT)))` | \([A-Za-z]*\) |.*/\1/p' events/README.md)
.PHONY: invoke
invoke: local-build ## send a sample event to its function in AWS's container (EVENT=events/process_approved.json)
	@$(call sam_local,invoke) --event $(EVENT) $(ARGS) $(FUNCTION)

.PHONY: chaos
chaos: $(test_env) ## kill the handlers at random and at every network write, and check what is left (ARGS="--gateway stripe-world")
	PYTHONPATH=layers/shared/python:cli .venv/bin/python -m chaos run $(ARGS)

.PHONY: chaos-restore
chaos-restore: $(test_env) ## lose the database, restore it to a moment, and check what the documented steps leave
	PYTHONPATH=layers/shared/python:cli .venv/bin/python -m chaos restore $(ARGS)

.PHONY: chaos-mutants
chaos-mutants: $(test_env) ## show that the harness can fail: put in seeded defects, one at a time (ARGS="--like TEXT")
	PYTHONPATH=layers/shared/python:cli .venv/bin/python -m chaos mutants $(ARGS)

.PHONY: durable
durable: $(durable_env) ## count the charges of a Lambda durable function that is killed and doubled (docs/adr/024-durable-functions.md)
	PYTHONPATH=layers/shared/python .venv-durable/bin/python -m bench.durable

.PHONY: model
model: $(test_env) ## check the model of the protocol exhaustively, and its mutants (needs spin and a C compiler)
	PYTHONPATH=layers/shared/python .venv/bin/python -m model.check $(ARGS)

.PHONY: bench
bench: $(bench_env) $(sam_env) ## time payments and cold starts, ours and a plain peer's, on the same servers (ARGS="--rounds 5 --seconds 8"; needs pgbouncer)
	PYTHONPATH=layers/shared/python .venv-bench/bin/python -m bench.payments $(ARGS)

.PHONY: clean
clean: ## remove environments, caches and builds, but not the database in .local/
	rm -rf .venv .venv-* .aws-sam .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --no-deps: a lock names every package, so pip need not look for more.
$(run_env) $(test_env) $(sam_env) $(cli_env) $(audit_env) $(bench_env) $(nag_env) $(durable_env) $(emulator_env) $(sdks_env) $(clients_env) $(gateways_env):
	@test -n '$(PYTHON)' && $(PYTHON) -c '$(new_enough)' 2>/dev/null || { echo >&2 \
		'Python 3.11 or newer is needed, and $(or $(PYTHON),python3) is $(or $(python_version),older or missing). Install one and name it:' \
		'make $(firstword $(MAKECMDGOALS)) PYTHON=python3.13'; exit 1; }
	@echo 'Setting up $(@D) from requirements/$(firstword $(subst -, ,$(@F))).txt, once.'
	@rm -rf $(@D)
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
		-r requirements/$(firstword $(subst -, ,$(@F))).txt
	@touch $@
