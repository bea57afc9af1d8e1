// mvn -q dependency:copy-dependencies -DoutputDirectory=lib ; java -cp 'lib/*' Validate.java FILE.json...
// Offline R4 (4.0.1) validation. Exit 1 when any file has an error.
import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.validation.*;
import java.nio.file.*;
import java.util.*;
import org.hl7.fhir.common.hapi.validation.support.*;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.r4.model.CodeSystem;

public class Validate {
    static final String OBSERVATION_VALUE = "http://terminology.hl7.org/CodeSystem/v3-ObservationValue";

    // R4's own copy of the code system (2018-08-12) is older than AIAST: add the code under its parent, as THO 4.0.0 and later have it.
    static boolean addAiast(List<CodeSystem.ConceptDefinitionComponent> concepts) {
        for (var c : concepts) {
            if (c.getCode().equals("_SECINTPRVABOBV")) {
                c.addConcept().setCode("AIAST").setDisplay("Artificial Intelligence asserted");
                return true;
            }
            if (addAiast(c.getConcept())) return true;
        }
        return false;
    }

    public static void main(String[] files) throws Exception {
        var ctx = FhirContext.forR4();
        var core = new DefaultProfileValidationSupport(ctx);
        var patched = (CodeSystem) core.fetchCodeSystem(OBSERVATION_VALUE);
        if (!addAiast(patched.getConcept())) throw new IllegalStateException("parent concept not found");
        var extra = new PrePopulatedValidationSupport(ctx);
        extra.addCodeSystem(patched);
        var module = new FhirInstanceValidator(new ValidationSupportChain(extra, core,
            new CommonCodeSystemsTerminologyService(ctx), new InMemoryTerminologyServerValidationSupport(ctx),
            new SnapshotGeneratingValidationSupport(ctx)));
        module.setAnyExtensionsAllowed(true);
        var validator = ctx.newValidator().registerValidatorModule(module);
        boolean bad = false;
        for (String file : files) {
            int errors = 0;
            for (var m : validator.validateWithResult(Files.readString(Path.of(file))).getMessages())
                if (m.getSeverity().compareTo(ResultSeverityEnum.ERROR) >= 0) {
                    errors++;
                    System.out.println(file + ": " + m.getLocationString() + ": " + m.getMessage());
                }
            System.out.println(file + ": " + (errors == 0 ? "valid" : errors + " errors"));
            bad |= errors > 0;
        }
        System.exit(bad ? 1 : 0);
    }
}
