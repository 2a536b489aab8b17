package config

import (
	"fmt"
	"os"
	"regexp"
)

// reference is the one form that expands. A bare $ stays what it is: passwords and paths have them.
var reference = regexp.MustCompile(`\$\{([^{}]*)\}`)

var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expanded reads text and puts the environment's values in.
func (n node) expanded() string {
	return reference.ReplaceAllStringFunc(n.text(), n.variable)
}

// variable returns what one ${NAME} stands for.
func (n node) variable(ref string) string {
	name := ref[2 : len(ref)-1]
	if !variableName.MatchString(name) {
		n.fail("a ${...} holds no name of a variable", "write ${NAME}")
		return ""
	}
	value, set := os.LookupEnv(name)
	if !set || value == "" {
		n.fail(fmt.Sprintf("the environment variable %s is not set", name), "set it for lockstep, or remove the ${"+name+"}")
	}
	return value
}
